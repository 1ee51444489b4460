"""What repeats of one evaluation say: pass@k, pass^k and the noise floor over sampling seeds. Knows scores only."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri, ndtri, stdtrit

from mendloop.core.records import Outcome
from mendloop.core.stats import Interval, pass_at_k, pass_power_k


@dataclass(frozen=True, slots=True)
class Passing:
    """pass@k and pass^k over items with their intervals; items with fewer than k answers are counted, not used."""

    k: int
    n: int
    left_out_count: int
    any_right: float
    any_right_interval: Interval
    all_right: float
    all_right_interval: Interval


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """Spread of an accuracy over sampling seeds: sd and its interval.

    Two runs of the same checkpoint that differ only in the seed differ by more than `least_difference` 5 times in 100.
    """

    seed_count: int
    n: int
    left_out_count: int
    sd: float
    interval: Interval
    least_difference: float


def scores_by_item(outcomes: Sequence[Outcome]) -> dict[str, dict[int, float]]:
    """Score of each repeat of each item."""
    scores: dict[str, dict[int, float]] = defaultdict(dict)
    for outcome in outcomes:
        scores[outcome.item_id][outcome.repeat_index] = outcome.score
    return dict(scores)


def passing(scores: Mapping[str, Mapping[int, float]], *, k: int, confidence: float = 0.95) -> Passing:
    """pass@k and pass^k, each the mean over items of its unbiased estimate, with Student's interval over items."""
    usable = [list(repeats.values()) for repeats in scores.values() if len(repeats) >= k]
    counts = [(sum(score >= 1.0 for score in repeats), len(repeats)) for repeats in usable]
    any_right, any_interval = _mean([pass_at_k(right, n, k=k) for right, n in counts], confidence=confidence)
    all_right, all_interval = _mean([pass_power_k(right, n, k=k) for right, n in counts], confidence=confidence)
    return Passing(k, len(usable), len(scores) - len(usable), any_right, any_interval, all_right, all_interval)


def noise_floor(scores: Mapping[str, Mapping[int, float]], *, confidence: float = 0.95) -> NoiseFloor | None:
    """Between-seed standard deviation of the mean score, over the items that every seed measured.

    The interval is the chi-square one of a normal sample's sd (an accuracy over many items is near normal).
    None where there are fewer than two seeds.
    """
    seeds = sorted({seed for repeats in scores.values() for seed in repeats})
    shared = [repeats for repeats in scores.values() if len(repeats) == len(seeds)]
    if len(seeds) < 2 or not shared:
        return None
    means = np.array([[repeats[seed] for seed in seeds] for repeats in shared]).mean(axis=0)
    free, sd = len(seeds) - 1, float(means.std(ddof=1))
    tail = (1 - confidence) / 2
    low, high = (sd * math.sqrt(free / float(chdtri(free, share))) for share in (tail, 1 - tail))
    least = float(ndtri((1 + confidence) / 2)) * math.sqrt(2) * sd
    return NoiseFloor(len(seeds), len(shared), len(scores) - len(shared), sd, Interval(low, high), least)


def _mean(values: Sequence[float], *, confidence: float) -> tuple[float, Interval]:
    n = len(values)
    if n < 2:
        return (values[0] if n else math.nan), Interval(0.0, 1.0)
    mean = math.fsum(values) / n
    error = float(np.std(values, ddof=1)) / math.sqrt(n)
    reach = float(stdtrit(n - 1, (1 + confidence) / 2)) * error
    return mean, Interval(max(0.0, mean - reach), min(1.0, mean + reach))
