"""Scores of benchmarks/effectiveness.py: gains, paired tests over seeds, the share of the oracle's gain, the bars.

Pure: counts and means in, values out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from scipy.special import stdtrit

ALPHA = 0.05
LEAST_SHARE = 0.8
"""Share of the oracle's gain that ours should reach."""
MOST_LOSS = 0.01
"""Accuracy that ours may lose outside the weaknesses: one point."""


class Accuracy(NamedTuple):
    """Accuracies of one model. targets is the mean of the two weaknesses' own, each in the task's distribution."""

    targets: float
    overall: float
    healthy: float


@dataclass(frozen=True)
class Cell:
    """One arm of one world. facts are what its document says beside."""

    family: str
    seed: int
    budget: int
    arm: str
    before: Accuracy
    after: Accuracy
    facts: Mapping[str, Any]

    @property
    def gain(self) -> float:
        """On the target slices."""
        return self.after.targets - self.before.targets

    @property
    def loss(self) -> float:
        """Outside the weaknesses; below 0 where the fix helped there too."""
        return self.before.healthy - self.after.healthy


class Estimate(NamedTuple):
    """A mean over seeds with its 95 % interval (Student's t)."""

    mean: float
    low: float
    high: float


class Contrast(NamedTuple):
    """Ours minus a control, paired by seed. p is two-sided and exact (see p_sign_flip)."""

    difference: Estimate
    p: float


def accuracies(parts: Sequence[tuple[int, int]], shares: Sequence[float]) -> Accuracy:
    """From (right, items) of the four parts (healthy, first weakness, second, both) and the task's shares of them.

    Parts have other shares among the fresh items than in the task, so each is weighted back.
    """
    rates = [right / n if n else 0.0 for right, n in parts]
    weights = [share if n else 0.0 for share, (_, n) in zip(shares, parts, strict=True)]
    first, second = _weighted(rates, weights, (1, 3)), _weighted(rates, weights, (2, 3))
    return Accuracy((first + second) / 2, _weighted(rates, weights, (0, 1, 2, 3)), rates[0])


def _weighted(rates: Sequence[float], weights: Sequence[float], chosen: Sequence[int]) -> float:
    total = math.fsum(weights[part] for part in chosen)
    if not total:
        raise ValueError(f"no fresh item lies in the parts {list(chosen)}: there is nothing to measure")
    return math.fsum(rates[part] * weights[part] for part in chosen) / total


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and 95 % interval; from a single value the interval is all numbers."""
    n, mean = len(values), math.fsum(values) / len(values)
    if n < 2:
        return Estimate(mean, -math.inf, math.inf)
    half = _t(n - 1) * _error(values)
    return Estimate(mean, mean - half, mean + half)


def p_sign_flip(differences: Sequence[float]) -> float:
    """Exact two-sided p of "the differences are as likely to have the other sign" (Fisher 1935; Pitman 1937).

    The share of all 2^n assignments of signs whose sum is at least as far from 0. With n seeds it is never below
    2^(1 - n): five seeds cannot reach .05, six can.
    """
    seen = abs(math.fsum(differences))
    tolerance = 1e-12 * (1 + seen)
    sums = (abs(math.fsum(sign * value for sign, value in zip(signs, differences, strict=True))) for signs in
            product((1, -1), repeat=len(differences)))  # fmt: skip
    return sum(value >= seen - tolerance for value in sums) / 2 ** len(differences)


def share_of(ours: Sequence[float], oracle: Sequence[float]) -> Estimate:
    """Mean of ours over the mean of the oracle's, paired by seed, with Fieller's 95 % interval (Fieller 1954).

    The interval is all numbers where the oracle's own gain cannot be told from 0.
    """
    n = len(ours)
    above, below = math.fsum(ours) / n, math.fsum(oracle) / n
    if n < 2 or not below:
        return Estimate(above / below if below else math.nan, -math.inf, math.inf)
    critical = _t(n - 1) ** 2
    v_above, v_below = _error(ours) ** 2, _error(oracle) ** 2
    covariance = _covariance(ours, oracle) / n
    a = below**2 - critical * v_below
    b = above * below - critical * covariance
    c = above**2 - critical * v_above
    root = b * b - a * c
    if a <= 0:
        return Estimate(above / below, -math.inf, math.inf)
    half = math.sqrt(max(0.0, root))
    return Estimate(above / below, (b - half) / a, (b + half) / a)


@dataclass(frozen=True)
class ArmRow:
    """An arm of a family at a budget, over all seeds."""

    family: str
    budget: int
    arm: str
    seed_count: int
    example_count: float
    weak_share: float
    gain: Estimate
    overall: Estimate
    loss: Estimate
    ours_more: Contrast | None
    """None for ours itself."""


@dataclass(frozen=True)
class Bars:
    """What ours has to show at a family and budget, and whether it does."""

    family: str
    budget: int
    p_random: float
    p_direct: float
    beats_random: bool
    beats_direct: bool
    oracle_share: Estimate
    reaches_oracle: bool
    loss: Estimate
    keeps_rest: bool

    @property
    def passes(self) -> bool:
        """All bars."""
        return self.beats_random and self.beats_direct and self.reaches_oracle and self.keeps_rest


def arm_row(cells: Sequence[Cell], ours: Sequence[Cell]) -> ArmRow:
    """The row of one arm's cells; both sequences have the same seeds in the same order."""
    if [cell.seed for cell in cells] != [cell.seed for cell in ours]:
        raise ValueError("cells that are compared must have the same seeds")
    one = cells[0]
    paired = [left.gain - right.gain for left, right in zip(ours, cells, strict=True)]
    return ArmRow(
        one.family,
        one.budget,
        one.arm,
        len(cells),
        sum(cell.facts["examples"] for cell in cells) / len(cells),
        sum(sum(cell.facts["weak_shares"]) for cell in cells) / len(cells),
        estimate([cell.gain for cell in cells]),
        estimate([cell.after.overall for cell in cells]),
        estimate([cell.loss for cell in cells]),
        None if one.arm == ours[0].arm else Contrast(estimate(paired), p_sign_flip(paired)),
    )


def bars_of(rows: Mapping[str, ArmRow], *, share: Estimate, ours: str, controls: tuple[str, str]) -> Bars:
    """The bars from the rows of one family and budget; controls are the random and the directly-sampled arm."""
    contrasts = [rows[control].ours_more for control in controls]
    by_random, by_direct = contrasts
    assert by_random is not None
    assert by_direct is not None
    loss = rows[ours].loss
    return Bars(
        rows[ours].family,
        rows[ours].budget,
        by_random.p,
        by_direct.p,
        _beats(by_random),
        _beats(by_direct),
        share,
        share.mean >= LEAST_SHARE,
        loss,
        loss.mean <= MOST_LOSS,
    )


def _beats(contrast: Contrast) -> bool:
    return contrast.difference.mean > 0 and contrast.p < ALPHA


def _t(degrees: int) -> float:
    return float(stdtrit(degrees, 1 - ALPHA / 2))


def _error(values: Sequence[float]) -> float:
    return math.sqrt(_covariance(values, values) / len(values))


def _covariance(left: Sequence[float], right: Sequence[float]) -> float:
    n = len(left)
    means = math.fsum(left) / n, math.fsum(right) / n
    return math.fsum((a - means[0]) * (b - means[1]) for a, b in zip(left, right, strict=True)) / (n - 1)
