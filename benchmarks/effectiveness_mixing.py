"""Replay of benchmarks/effectiveness.py: which examples are replayed, and how arms come to equally many tokens.

Pure: numbers and a random generator in, numbers out.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

STEER_TRIES = 2_000_000


def cycled(size: int, count: int, *, rng: random.Random) -> list[int]:
    """count numbers below size, each as often as the others, in a new order each time round."""
    found: list[int] = []
    while len(found) < count:
        found += rng.sample(range(size), size)
    return found[:count]


def steer(
    chosen: Sequence[int], lengths: Sequence[int], *, total: int, rng: random.Random
) -> list[int | None]:  # fmt: skip
    """Which of lengths takes each chosen one's place (None: none) so that their sum is the total.

    Places and their successors are drawn at random; one counts where it brings the sum nearer, or leaves it near: where
    all lengths are odd numbers apart, the last token takes a detour. Raises ValueError where STEER_TRIES fail.
    """
    places: list[int | None] = [None] * len(chosen)
    now, left = list(chosen), total - sum(chosen)
    near = max(lengths) - min(lengths) + 1
    for _ in range(STEER_TRIES):
        if not left:
            return places
        at, other = rng.randrange(len(now)), rng.randrange(len(lengths))
        step = lengths[other] - now[at]
        if step and abs(left - step) < max(abs(left), near):
            places[at], now[at], left = other, lengths[other], left - step
    raise ValueError(f"the replayed examples are {left} tokens away from {total}: no examples of fitting lengths")
