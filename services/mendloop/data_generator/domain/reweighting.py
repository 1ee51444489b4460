"""Mixture weights over clusters of the corpus, by slice deficit. Values in, values out.

Knows counts and masses; knows neither texts nor models.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

Weights = Mapping[str, float]
"""Share of each group; they sum to 1."""
T = TypeVar("T")


def by_deficit(counts: Mapping[str, int], deficits: Mapping[str, float], *, strength: float) -> dict[str, float]:
    """(1 - strength) of the corpus' own shares and strength of the deficits' shares.

    counts are rows of each group, deficits its failure mass (any unit, 0 where absent). A group without rows gets
    nothing, as there is nothing to draw. Without any deficit the corpus' own shares stay.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength is {strength}; it lies in 0..1")
    groups = [group for group, count in counts.items() if count]
    if not groups:
        raise ValueError("there is no group with rows to weigh")
    total = sum(counts[group] for group in groups)
    masses = {group: max(0.0, deficits.get(group, 0.0)) for group in groups}
    mass = math.fsum(masses.values())
    kept = 1 - strength if mass else 1.0
    return {group: kept * counts[group] / total + (strength * masses[group] / mass if mass else 0) for group in groups}


def resampled(rows: Sequence[T], groups: Sequence[str], weights: Weights, *, seed: int) -> list[T]:
    """As many rows, each group with its weight's share of them: whole rounds through a group, then a random rest.

    Shares are rounded by largest remainders; the order of the rows is kept, repeats stand beside one another.
    """
    members: dict[str, list[int]] = {group: [] for group in weights}
    for at, group in enumerate(groups):
        if group in members:
            members[group].append(at)
    times = [0] * len(rows)
    for group, count in _counts({g: weights[g] for g in weights if members[g]}, total=len(rows)).items():
        own = members[group]
        rounds, rest = divmod(count, len(own))
        for at in own:
            times[at] += rounds
        for at in random.Random(f"{seed}/{group}").sample(own, rest):
            times[at] += 1
    return [row for row, count in zip(rows, times, strict=True) for _ in range(count)]


def _counts(weights: Weights, *, total: int) -> dict[str, int]:
    mass = math.fsum(weights.values())
    if not mass:
        return {}
    exact = {group: total * weight / mass for group, weight in weights.items()}
    counts = {group: int(value) for group, value in exact.items()}
    by_rest = sorted(exact, key=lambda group: (counts[group] - exact[group], group))
    for group in by_rest[: total - sum(counts.values())]:
        counts[group] += 1
    return counts
