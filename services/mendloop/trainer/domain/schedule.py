"""Owns which examples each step sees: replay from the corpus, the rest from the batch, both shuffled by the seed.

A pure function of its values, so a training that goes on after a crash sees what it would have seen.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Mixture:
    """What steps are drawn from. Without a batch (batch_count 0) every example comes from the corpus.

    Examples are numbered: the corpus from 0, the batch from corpus_count.
    """

    corpus_count: int
    batch_count: int
    replay_share: float
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if not 0 <= self.replay_share <= 1:
            raise ValueError(f"replay_share is {self.replay_share}; it must lie in 0..1")
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; a step needs an example")
        if self.batch_count and self.replay_share == 1:
            raise ValueError(
                f"replay_share is 1: none of the batch's {self.batch_count} examples would be seen; lower it"
            )
        if self.corpus_count == 0 and self.corpus_share > 0:
            raise ValueError(f"the corpus is empty, but {float(self.corpus_share):.0%} of each step comes from it")

    @property
    def corpus_share(self) -> Fraction:
        """Share of the corpus in all steps, exact, so that rounding never drifts."""
        return Fraction(self.replay_share).limit_denominator(10**6) if self.batch_count else Fraction(1)


@dataclass(frozen=True, slots=True)
class Cut:
    """How many steps fit, how many tokens they process, and why fewer than asked for (empty: all fit)."""

    step_count: int
    token_count: int
    reason: str


def schedule(mixture: Mixture, *, step_count: int) -> list[tuple[int, ...]]:
    """The example numbers of each step.

    After any number of steps the corpus has had its share of all examples, rounded down: the rounding is spread.
    """
    corpus = _cycled(mixture.corpus_count, seed=mixture.seed, source="corpus")
    batch = _cycled(mixture.batch_count, seed=mixture.seed, source="batch")
    steps, size, share = [], mixture.batch_size, mixture.corpus_share
    for step in range(step_count):
        replay_count = int((step + 1) * size * share) - int(step * size * share)
        replayed = tuple(next(corpus) for _ in range(replay_count))
        added = tuple(mixture.corpus_count + next(batch) for _ in range(size - replay_count))
        steps.append(replayed + added)
    return steps


def held_out(count: int, *, share: float, seed: int) -> frozenset[int]:
    """Which of count rows no step shall see: their share, rounded down, so that something is always left."""
    order = list(range(count))
    random.Random(f"{seed}/held-out").shuffle(order)
    return frozenset(order[: int(count * share)])


def cut_to_limit(step_tokens: Sequence[int], *, token_limit: int) -> Cut:
    """The most steps whose tokens together do not exceed the limit; 0 means no limit.

    step_tokens holds the input tokens of each step without padding: what a step processes.
    """
    total = 0
    for step, count in enumerate(step_tokens):
        if token_limit and total + count > token_limit:
            reason = f"token limit {token_limit}: {step} of {len(step_tokens)} steps fit ({total} tokens)"
            return Cut(step, total, reason)
        total += count
    return Cut(len(step_tokens), total, "")


def _cycled(count: int, *, seed: int, source: str) -> Iterator[int]:
    """0 to count - 1 in a new order each time round."""
    epoch = 0
    while True:
        order = list(range(count))
        random.Random(f"{seed}/{source}/{epoch}").shuffle(order)
        yield from order
        epoch += 1
