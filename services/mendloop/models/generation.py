"""The generation port: what evaluator and diagnostician ask of a checkpoint. Knows no framework."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mendloop.core.records import StopReason


@dataclass(frozen=True, slots=True)
class Generation:
    """One greedy output. stop_reason "length" means that the limit cut it off."""

    text: str
    prompt_token_count: int
    output_token_count: int
    stop_reason: StopReason


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

        An empty prompt is BOS, or EOS where the tokenizer has no BOS; only after it may a completion exceed the context.
        """
