"""The exact interval of a proportion, in plain Python: the gateway, which shows intervals and computes few, would hold
34 MB of numpy and scipy.special for it. A test holds it against scipy's.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

_MOST_STEPS = 100
_MOST_TERMS = 100_000
_TINY = 1e-300


class Interval(NamedTuple):
    """A closed interval."""

    low: float
    high: float


@lru_cache(maxsize=4096)
def clopper_pearson(correct: int, n: int, *, confidence: float = 0.95) -> Interval:
    """The exact interval of a proportion (Clopper & Pearson 1934); 0..1 where nothing was measured."""
    if not 0 <= correct <= n:
        raise ValueError(f"correct is {correct} of n = {n}; it must lie in 0..n")
    tail = (1 - confidence) / 2
    low = _beta_quantile(correct, n - correct + 1, tail) if correct else 0.0
    high = 1 - _beta_quantile(n - correct, correct + 1, tail) if correct < n else 1.0
    return Interval(low, high)


def _beta_quantile(a: int, b: int, share: float) -> float:
    """Where the beta distribution's lower tail is a share: Newton's steps on the logarithm of the tail, inside a
    bracket that halves where a step would leave it."""
    low, high, x = 0.0, 1.0, a / (a + b)
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    for _ in range(_MOST_STEPS):
        tail = _beta_tail(a, b, x, scale)
        low, high = (low, x) if tail > share else (x, high)
        density = math.exp(scale + (a - 1) * math.log(x) + (b - 1) * math.log1p(-x))
        step = (math.log(tail) - math.log(share)) * tail / density if tail > 0 and density > 0 else math.inf
        new = x - step
        if not low < new < high:
            new = (low + high) / 2
        if abs(new - x) <= 1e-14 * x:
            return new
        x = new
    return x


def _beta_tail(a: int, b: int, x: float, scale: float) -> float:
    """The regularized incomplete beta function I_x(a, b)."""
    front = math.exp(scale + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _continued_fraction(a, b, x) / a
    return 1 - front * _continued_fraction(b, a, 1 - x) / b


def _continued_fraction(a: int, b: int, x: float) -> float:
    """Lentz's method for the continued fraction of I_x(a, b) (Numerical Recipes, 6.4)."""
    c, d = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _MOST_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _away_from_zero(1 + term * d)
            c = _away_from_zero(1 + term / c)
            value *= c * d
        if abs(c * d - 1) < 4e-16:
            break
    return value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
