"""Intervals of differences, attributable shares and means. Knows numbers; knows neither probes nor causes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mendloop.core.stats import Interval

RESAMPLES = 2000


class Estimate(NamedTuple):
    """A value inside its 95 % interval."""

    value: float
    low: float
    high: float


def difference(first: Estimate, second: Estimate) -> Estimate:
    """first - second of two independent estimates (MOVER: Donner & Zou 2012, Stat. Methods Med. Res. 21:347)."""
    value = first.value - second.value
    low = value - math.hypot(first.value - first.low, second.high - second.value)
    high = value + math.hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, low, high)


def attributable_share(exposed: Estimate, unexposed: Estimate) -> Estimate:
    """Share of the failures of the exposed that exceeds the failure rate of the unexposed: 1 - r0 / r1, at least 0.

    Levin's attributable fraction among the exposed. The interval pairs the far ends of the two rates, so it is wider
    than an exact one.
    """
    return Estimate(
        _excess(exposed.value, unexposed.value),
        _excess(exposed.low, unexposed.high),
        _excess(exposed.high, unexposed.low),
    )


def _excess(exposed: float, unexposed: float) -> float:
    return max(0.0, 1 - unexposed / exposed) if exposed > 0 else 0.0


def bootstrap_ratio(sums: Sequence[float], counts: Sequence[float], *, seed: int) -> Estimate:
    """Sum of sums over sum of counts with its percentile interval; whole examples are resampled (Efron 1979)."""
    totals, sizes = np.asarray(sums, dtype=float), np.asarray(counts, dtype=float)
    value = float(totals.sum() / sizes.sum())
    drawn = np.random.default_rng(seed).integers(0, len(totals), size=(RESAMPLES, len(totals)))
    ratios = totals[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = (float(end) for end in np.percentile(ratios, (2.5, 97.5)))
    return Estimate(value, min(low, value), max(high, value))


def estimate(value: float, interval: Interval) -> Estimate:
    """A value with an interval of core.stats."""
    return Estimate(value, interval.low, interval.high)
