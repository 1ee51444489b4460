"""The generation port: what evaluator and diagnostician ask of a checkpoint. Knows no framework."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from mendloop.core.records import StopReason


@dataclass(frozen=True, slots=True)
class Generation:
    """One output. stop_reason "length" means that the limit cut it off.

    text goes without the space that joins it to its prompt; lead is that space where the model said it.
    """

    text: str
    prompt_token_count: int
    output_token_count: int
    stop_reason: StopReason
    latency_s: float = field(default=0.0, compare=False)
    """Seconds from the call to the last token, waiting in a batch or in a queue included."""
    lead: str = ""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How outputs are drawn. Each prompt has a seed of its own, so that its output depends on no other prompt."""

    temperature: float
    top_p: float
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}; draws need one above 0")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it must lie in 0..1, without 0")


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Natural-log probabilities of a completion's tokens and of the EOS that should follow it.

    is_greedy: whether each token of the completion (without the EOS) is the model's most probable; None where the
    backend does not tell.
    """

    tokens: tuple[float, ...]
    eos: float
    is_greedy: bool | None = None


class LanguageModel(Protocol):
    """A loaded checkpoint. Prompts are already in the model's template."""

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int, stop: Sequence[str] = ()) -> list[Generation]:
        """Greedy outputs, in the order of the prompts; an output is cut before the first stop string."""

    def logprobs(self, prompts: Sequence[str], completions: Sequence[str]) -> list[TokenLogprobs]:
        """Teacher-forced log-probabilities of completions after their prompts.

        An empty prompt is BOS, or EOS where the tokenizer has no BOS; only after it may a completion exceed the
        context.
        """


@runtime_checkable
class LikelihoodModel(LanguageModel, Protocol):
    """A checkpoint that also scores texts of which nothing says that they end."""

    def continuation_logprobs(self, prompts: Sequence[str], completions: Sequence[str]) -> list[TokenLogprobs]:
        """logprobs without the EOS, which is given as 0; is_greedy is told."""

    def text_logprobs(self, texts: Sequence[str]) -> list[TokenLogprobs]:
        """continuation_logprobs of whole texts after BOS, or EOS where the tokenizer has no BOS.

        A BOS that the tokenizer adds by itself is one of the text's tokens.
        """


@runtime_checkable
class SamplingModel(LanguageModel, Protocol):
    """A checkpoint that also draws outputs at random."""

    def sample(
        self, prompts: Sequence[str], *, sampling: Sampling, max_new_tokens: int, stop: Sequence[str] = ()
    ) -> list[Generation]:
        """One draw per prompt; the same prompt with the same seed gives the same output again on the same backend."""
