"""How a round's examples are split over its slices: by failed items, or by expected gain per cost from past rounds.

Knows counts and past figures; knows neither plans nor budgets.

The expected gain. Of a slice's failures n examples put the share 1 - exp(-rate * n) right: the first examples teach
most, and no slice can gain more than it fails. A past round that gave a slice n examples measured that share, with a
binomial error, hence a rate with its own (delta method). Rates of slices are alike: a slice's rate has a normal prior
with the mean and the spread of all rates measured so far, first those of its cause, and its own measurements on top
(empirical Bayes, normal-normal). Spread is never taken as smaller than half the mean, so that a few rounds do not end
the search. Each slice's rate is the mean of four draws from its posterior (Thompson 1933, with less of its noise: one
draw lost 1 % where rates differ little), which tries now and then what looks worse but is uncertain; then examples go
one by one to where the drawn rates promise most per cost, which is optimal for such a response, as each further
example of a slice promises less. Where no rate was ever measured the split is by failed items.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from mendloop.controller.domain.allocation import allocate
from mendloop.controller.domain.records import Conditions

BY_FAILURES, EXPECTED_GAIN = "by_failures", "expected_gain"
MIN_RELATIVE_SPREAD = 0.5
DRAWS = 4
LEAST_FAILURES = 0.5
"""Stands for "none left" in logarithms: half an item."""


@dataclass(frozen=True, slots=True)
class Need:
    """A slice that asks for examples."""

    conditions: Conditions
    cause: str
    failed_count: int
    cost: float = 1.0
    """Of one example, in any unit that all needs share."""


@dataclass(frozen=True, slots=True)
class Past:
    """What a past round's examples brought a slice."""

    conditions: Conditions
    cause: str
    example_count: int
    failed_before: int
    failed_after: int

    @property
    def rate(self) -> float:
        """Measured rate an example; 0 where the slice did not gain."""
        left = max(self.failed_after, LEAST_FAILURES) / max(self.failed_before, LEAST_FAILURES)
        return max(0.0, -math.log(left) / self.example_count)

    @property
    def variance(self) -> float:
        """Of the rate: binomial noise of the share that is left, through the logarithm."""
        before = max(self.failed_before, 1)
        left = min(max(self.failed_after, LEAST_FAILURES) / before, 1 - LEAST_FAILURES / (before + 1))
        return (1 - left) / (left * before) / self.example_count**2


class Belief(NamedTuple):
    """Mean and standard deviation of a rate an example."""

    mean: float
    spread: float


@dataclass(frozen=True, slots=True)
class Split:
    """Examples by slice, and how many failed items of each they are expected to put right (0 where nobody knows)."""

    counts: tuple[int, ...]
    gains: tuple[float, ...]
    gain_spreads: tuple[float, ...]
    is_informed: bool
    """Whether past rounds say anything."""

    @property
    def gain(self) -> float:
        """Failed items that are expected to be put right."""
        return math.fsum(self.gains)

    @property
    def spread(self) -> float:
        """Standard deviation of the gain, slices taken as independent."""
        return math.sqrt(math.fsum(spread**2 for spread in self.gain_spreads))


class Strategy(Protocol):
    """Splits examples over slices."""

    def __call__(self, count: int, needs: Sequence[Need], *, past: Sequence[Past], seed: int) -> Split:
        """The split of count examples; the same seed gives the same."""


def by_failures(count: int, needs: Sequence[Need], *, past: Sequence[Past], seed: int) -> Split:
    """By failure mass, whatever past rounds brought."""
    return _informed(needs, allocate(count, [need.failed_count for need in needs]), past=past)


def expected_gain(count: int, needs: Sequence[Need], *, past: Sequence[Past], seed: int) -> Split:
    """By expected gain per cost, with rates drawn from what past rounds taught. See the module."""
    if not _measured(past):
        return by_failures(count, needs, past=past, seed=seed)
    rng = random.Random(f"allocation/{seed}")
    rates = [_drawn(belief(need, past), rng) for need in needs]
    counts = [0] * len(needs)
    for _ in range(count):
        promises = [
            need.failed_count * rate * math.exp(-rate * given) / need.cost
            for need, rate, given in zip(needs, rates, counts, strict=True)
        ]
        counts[max(range(len(needs)), key=promises.__getitem__)] += 1
    return _informed(needs, counts, past=past)


STRATEGIES: dict[str, Strategy] = {BY_FAILURES: by_failures, EXPECTED_GAIN: expected_gain}


def belief(need: Need, past: Sequence[Past]) -> Belief:
    """The posterior of a slice's rate: all rounds, then those of its cause, then its own. Needs one measured round."""
    known = _measured(past)
    prior = _pooled(known)
    alike = [row for row in known if row.cause == need.cause]
    if alike:
        prior = _updated(prior, _pooled(alike))
    for row in known:
        if row.conditions == need.conditions:
            prior = _updated(prior, Belief(row.rate, math.sqrt(row.variance)))
    return prior


def _drawn(known: Belief, rng: random.Random) -> float:
    return math.fsum(max(0.0, rng.gauss(*known)) for _ in range(DRAWS)) / DRAWS


def _measured(past: Sequence[Past]) -> list[Past]:
    return [row for row in past if row.example_count > 0 and row.failed_before > 0]


def _pooled(rows: Sequence[Past]) -> Belief:
    mean = math.fsum(row.rate for row in rows) / len(rows)
    between = math.fsum((row.rate - mean) ** 2 for row in rows) / len(rows)
    noise = math.fsum(row.variance for row in rows) / len(rows)
    return Belief(mean, max(math.sqrt(between + noise), MIN_RELATIVE_SPREAD * mean, 1e-9))


def _updated(prior: Belief, seen: Belief) -> Belief:
    """Normal prior, normal measurement."""
    weights = 1 / prior.spread**2, 1 / max(seen.spread, 1e-9) ** 2
    mean = (prior.mean * weights[0] + seen.mean * weights[1]) / sum(weights)
    return Belief(mean, sum(weights) ** -0.5)


def _informed(needs: Sequence[Need], counts: Sequence[int], *, past: Sequence[Past]) -> Split:
    if not _measured(past):
        return Split(tuple(counts), (0.0,) * len(needs), (0.0,) * len(needs), is_informed=False)
    gains, spreads = [], []
    for need, given in zip(needs, counts, strict=True):
        known = belief(need, past)
        mean = max(0.0, known.mean)
        gains.append(need.failed_count * (1 - math.exp(-mean * given)))
        spreads.append(need.failed_count * math.exp(-mean * given) * given * known.spread)
    return Split(tuple(counts), tuple(gains), tuple(spreads), is_informed=True)
