"""Exact and paired statistics of proportions. Knows counts; knows neither items nor slices.

scipy.special only: scipy.stats would double the memory of a service without a model (107 MB against 56 MB).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.special import bdtr, ndtri

from mendloop.core.intervals import Interval as Interval
from mendloop.core.intervals import clopper_pearson as clopper_pearson


def p_below(correct: int, n: int, *, threshold: float) -> float:
    """One-sided exact binomial p-value of "the true proportion is at least the threshold"; small means it is below."""
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is {threshold}; it must lie in 0..1, without 0")
    return float(bdtr(correct, n, threshold)) if n else 1.0


def p_lower(correct: int, n: int, *, other_correct: int, other_n: int) -> float:
    """One-sided exact p-value of "the first proportion is at least the other" (Fisher 1935); small means lower.

    Conditions on the margins: the hypergeometric probability of at most `correct` successes in the first group.
    """
    if not (0 <= correct <= n and 0 <= other_correct <= other_n):
        raise ValueError(f"correct is {correct} of n = {n} against {other_correct} of {other_n}; it must lie in 0..n")
    successes, total = correct + other_correct, n + other_n
    fewest = max(0, successes - other_n)
    logs = [
        _log_choose(n, k) + _log_choose(other_n, successes - k) - _log_choose(total, successes)
        for k in range(fewest, correct + 1)
    ]
    return min(1.0, math.fsum(math.exp(value) for value in logs))


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values (q-values) in the order given: reject q <= rate (Benjamini & Hochberg 1995)."""
    count = len(p_values)
    q_values = [1.0] * count
    running = 1.0
    for rank, index in reversed(list(enumerate(sorted(range(count), key=lambda i: p_values[i]), start=1))):
        running = min(running, p_values[index] * count / rank)
        q_values[index] = running
    return q_values


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the order given that control the family-wise error rate (Holm 1979)."""
    count = len(p_values)
    adjusted = [1.0] * count
    running = 0.0
    for rank, index in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        running = max(running, min(1.0, p_values[index] * (count - rank)))
        adjusted[index] = running
    return adjusted


def p_improved(lost: int, gained: int) -> float:
    """One-sided exact McNemar p-value that the second of two paired measurements is better.

    lost and gained count the items that only the first, only the second gets right.
    """
    return float(bdtr(lost, lost + gained, 0.5)) if lost + gained else 1.0


def p_changed(lost: int, gained: int) -> float:
    """Two-sided exact McNemar p-value that two paired measurements differ (McNemar 1947, with the binomial of 1/2).

    lost and gained count the items that only the first, only the second gets right.
    """
    return min(1.0, 2 * float(bdtr(min(lost, gained), lost + gained, 0.5))) if lost + gained else 1.0


def pass_at_k(correct: int, n: int, *, k: int) -> float:
    """Unbiased chance that at least one of k answers is right, from n answers (Chen et al. 2021, arXiv 2107.03374)."""
    _check_repeats(correct, n, k=k)
    return 1.0 - math.prod((n - correct - i) / (n - i) for i in range(k))


def pass_power_k(correct: int, n: int, *, k: int) -> float:
    """Unbiased chance that k answers are all right, pass^k, from n answers (Yao et al. 2024, arXiv 2406.12045)."""
    _check_repeats(correct, n, k=k)
    return math.prod((correct - i) / (n - i) for i in range(k)) if correct >= k else 0.0


def paired_difference(lost: int, gained: int, *, n: int, confidence: float = 0.95) -> Interval:
    """Score interval of second - first of paired proportions over n items (Tango 1998, Stat. Med. 17:891)."""
    if n < 1 or lost + gained > n:
        raise ValueError(f"lost + gained is {lost + gained} of n = {n} paired items")
    critical = float(ndtri((1 + confidence) / 2))
    estimate = (gained - lost) / n
    low = -1.0 if estimate <= -1 else _crossing(lost, gained, n=n, inside=estimate, outside=-1.0, critical=critical)
    high = 1.0 if estimate >= 1 else _crossing(lost, gained, n=n, inside=estimate, outside=1.0, critical=critical)
    return Interval(low, high)


def p_not_inferior(lost: int, gained: int, *, n: int, margin: float) -> float:
    """One-sided p-value of "the second loses the margin or more" (Tango 1998); small means non-inferior."""
    if not 0 < margin < 1:
        raise ValueError(f"margin is {margin}; it must lie between 0 and 1")
    return 0.5 * math.erfc(_tango(lost, gained, n=n, delta=-margin) / math.sqrt(2)) if n else 1.0


def _check_repeats(correct: int, n: int, *, k: int) -> None:
    if not (1 <= k <= n and 0 <= correct <= n):
        raise ValueError(f"k is {k} and correct {correct} of n = {n} answers; k must lie in 1..n and correct in 0..n")


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _tango(lost: int, gained: int, *, n: int, delta: float) -> float:
    """Tango's score statistic for a true difference of delta; its maximum-likelihood q21 is the root of a quadratic."""
    b = -gained - lost + (2 * n - gained + lost) * delta
    c = -lost * delta * (1 - delta)
    q21 = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
    variance = n * (2 * q21 + delta * (1 - delta))
    numerator = gained - lost - n * delta
    if variance <= 0:
        return math.copysign(math.inf, numerator) if numerator else 0.0
    return numerator / math.sqrt(variance)


def _crossing(lost: int, gained: int, *, n: int, inside: float, outside: float, critical: float) -> float:
    """Bisection for the difference at which the statistic leaves the interval."""
    for _ in range(60):
        middle = (inside + outside) / 2
        if abs(_tango(lost, gained, n=n, delta=middle)) <= critical:
            inside = middle
        else:
            outside = middle
    return inside
