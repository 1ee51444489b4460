"""Scored token ids as log-probabilities of completions, of continuations without EOS, and of texts beyond the context.

Knows ids and numbers; knows neither tensors nor servers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from mendloop.core.errors import Permanent
from mendloop.models.encoding import Encoded
from mendloop.models.generation import TokenLogprobs
from mendloop.models.windows import joined, windows


class Scored(NamedTuple):
    """Of each id of an example behind its prompt: the natural-log probability, and whether it is the most probable."""

    logprobs: tuple[float, ...]
    are_greedy: tuple[bool, ...]


Scorer = Callable[[Sequence[Encoded]], list[Scored]]
"""Scores examples that fit the context; a backend's own."""


class Likelihoods(Protocol):
    """scored_completions or scored_continuations."""

    def __call__(
        self, examples: Sequence[Encoded], prompts: Sequence[str], *, context: float, name: str, score: Scorer
    ) -> list[TokenLogprobs]:
        """Log-probabilities of the examples of prompts, on a backend's scorer."""


def with_eos(scored: Scored) -> TokenLogprobs:
    """The scores of an example whose last id is the EOS."""
    return TokenLogprobs(scored.logprobs[:-1], scored.logprobs[-1], is_greedy=all(scored.are_greedy[:-1]))


def scored_completions(
    examples: Sequence[Encoded], prompts: Sequence[str], *, context: float, name: str, score: Scorer
) -> list[TokenLogprobs]:
    """Log-probabilities of completions and the EOS after each.

    An example without a prompt that exceeds the context is measured in windows. Raises Permanent for any other that
    does not fit it.
    """
    parts = [
        [example] if _fits(example, prompt, context=context, name=name) else windows(example, context=int(context))
        for example, prompt in zip(examples, prompts, strict=True)
    ]
    return [joined([with_eos(part) for part in found]) for found in _each(parts, score=score)]


def scored_continuations(
    examples: Sequence[Encoded], prompts: Sequence[str], *, context: float, name: str, score: Scorer
) -> list[TokenLogprobs]:
    """scored_completions without the EOS, whose log-probability is given as 0; a completion may be empty.

    Without it the last token needs no forward of its own: all one-token completions of a prompt come from one.
    """
    parts: list[list[Encoded]] = []
    for example, prompt in zip(examples, prompts, strict=True):
        bare = Encoded(example.input_ids[:-1], example.prompt_length, is_cut=example.is_cut)
        if not bare.completion_ids:
            parts.append([])
            continue
        fits = _fits(bare, prompt, context=context, name=name)
        parts.append([bare] if fits else windows(example, context=int(context))[:-1])
    return [
        TokenLogprobs(
            tuple(value for part in found for value in part.logprobs),
            0.0,
            is_greedy=all(is_greedy for part in found for is_greedy in part.are_greedy),
        )
        for found in _each(parts, score=score)
    ]


def _fits(example: Encoded, prompt: str, *, context: float, name: str) -> bool:
    fits = len(example.input_ids) <= context + 1  # the last id is predicted, not read
    if not fits and prompt:
        raise Permanent(
            f"prompt and completion have {len(example.input_ids)} tokens, the context of {name} has {context:.0f}:"
            f" {prompt[:80]!r}"
        )
    return fits


def _each(parts: Sequence[Sequence[Encoded]], *, score: Scorer) -> Iterator[list[Scored]]:
    """The scores of the parts of each example."""
    scored = iter(score([part for own in parts for part in own]))
    for own in parts:
        yield [next(scored) for _ in own]
