"""Owns what several outputs of one item count for: their seeds, the draw that tests look at, the mean over all.

Slices, gates and paired tests count the first draw of each item, right or wrong: items are independent, the repeats of
an item are not, and exact tests need independent rows. The first draw alone is an unbiased pass@1 (Chen et al. 2021);
the mean over all repeats is the same quantity with less noise, and is what is reported beside it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mendloop.core.events import stable_hash
from mendloop.core.records import Outcome


@dataclass(frozen=True, slots=True)
class PassAtOne:
    """Mean score over items of the mean over their repeats; standard_error is that of independent items."""

    mean: float
    standard_error: float
    item_count: int
    repeat_count: int


def seed_of(item_id: str, *, seed: int, repeat_index: int) -> int:
    """The seed of one draw, 32 bits: the same item draws the same in every shard, batch and order."""
    return int(stable_hash("draw", str(seed), item_id, str(repeat_index))[:8], 16)


def first_draws(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The outcomes that slices and tests count."""
    return [outcome for outcome in outcomes if outcome.repeat_index == 0]


def pass_at_one(outcomes: Sequence[Outcome]) -> PassAtOne:
    """pass@1 over all repeats. Raises ValueError without outcomes, or where items have different numbers of them."""
    scores: dict[str, list[float]] = defaultdict(list)
    for outcome in outcomes:
        scores[outcome.item_id].append(outcome.score)
    repeats = {len(values) for values in scores.values()}
    if len(repeats) != 1:
        raise ValueError(f"items have {sorted(repeats)} outcomes each; pass@1 needs the same number of every item")
    means = [sum(values) / len(values) for values in scores.values()]
    n = len(means)
    mean = sum(means) / n
    variance = sum((value - mean) ** 2 for value in means) / (n - 1) if n > 1 else 0.0
    return PassAtOne(mean, (variance / n) ** 0.5, n, repeats.pop())
