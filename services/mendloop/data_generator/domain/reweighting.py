"""Mixture weights over clusters of the corpus: by slice deficit, or by group DRO as in DoReMi. Values in, values out.

Knows counts, masses and losses; knows neither texts nor models.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

Weights = Mapping[str, float]
"""Share of each group; they sum to 1."""
T = TypeVar("T")


class GroupLosses(Protocol):
    """A proxy model that trains on a mixture, beside a reference model that was trained before."""

    def step(self, weights: Weights) -> Mapping[str, tuple[float, float]]:
        """Train the proxy one step on the mixture: its loss and the reference's on each group, nats per token."""


@dataclass(frozen=True, slots=True)
class GroupDro:
    """Settings of DoReMi (Xie et al. 2023, arXiv 2305.10429, algorithm 1, whose step size and smoothing these are)."""

    steps: int
    step_size: float = 1.0
    smoothing: float = 1e-3

    def __post_init__(self) -> None:
        if self.steps < 1 or self.step_size <= 0 or not 0 <= self.smoothing < 1:
            raise ValueError(
                f"group DRO of {self.steps} steps, step size {self.step_size}, smoothing {self.smoothing}: "
                "at least one step, a positive step size, a smoothing in 0..1"
            )


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


def by_group_dro(groups: Sequence[str], losses: GroupLosses, *, settings: GroupDro) -> dict[str, float]:
    """Mean of the weights over all steps: each step multiplies a group's weight by exp(step size * excess loss).

    The excess is how much the proxy's loss is above the reference's, at least 0. The start is uniform, and a little of
    the uniform mixture is mixed in at each step, so that no group is ever lost.
    """
    if not groups:
        raise ValueError("there is no group to weigh")
    uniform = 1 / len(groups)
    weights = dict.fromkeys(groups, uniform)
    sums = dict.fromkeys(groups, 0.0)
    for _ in range(settings.steps):
        found = losses.step(weights)
        excess = {group: max(0.0, found[group][0] - found[group][1]) for group in groups}
        most = max(excess.values())  # taken out of every exponent: no overflow, same weights
        raised = {group: weights[group] * math.exp(settings.step_size * (excess[group] - most)) for group in groups}
        total = math.fsum(raised.values())
        weights = {
            group: (1 - settings.smoothing) * raised[group] / total + settings.smoothing * uniform for group in groups
        }
        sums = {group: sums[group] + weights[group] for group in groups}
    return {group: sums[group] / settings.steps for group in groups}


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
