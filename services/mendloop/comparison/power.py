"""What a number of items cannot show: the minimum detectable effect, as a number and in words. Knows counts only."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, gammaln, ndtri, xlog1py, xlogy

POWER = 0.8


def detectable_proportion(n: int, *, discordant: int, level: float = 0.05, power: float = POWER) -> float:
    """Smallest true difference of two paired proportions that the exact McNemar test on n items finds with this power.

    Bisection on the exact power for the share of discordant items: the observed one, but never below the difference
    itself, because a difference d needs at least d of them. 1 where even the largest difference would be missed.
    """
    if n < 1 or not 0 <= discordant <= n:
        raise ValueError(f"discordant is {discordant} of n = {n} items; it must lie in 0..n, and n above 0")

    def is_found(difference: float) -> bool:
        share = max(discordant / n, difference)
        return exact_power(n, share=share, difference=difference, level=level) >= power

    low, high = 0.0, 1.0
    if not is_found(high):
        return 1.0
    for _ in range(16):
        middle = (low + high) / 2
        low, high = (low, middle) if is_found(middle) else (middle, high)
    return high


def exact_power(n: int, *, share: float, difference: float, level: float) -> float:
    """Power of the two-sided exact McNemar test (Duffy 1984, Biometrics 40:1005).

    Sums over the number m of discordant items, binomial (n, share); given m, the gained ones are binomial
    (m, (share + difference) / 2 share), and the test rejects where the rarer kind counts at most k(m).
    """
    if not share:
        return 0.0
    reach = 8 * math.sqrt(n * share * (1 - share)) + 8
    m = np.arange(max(0, math.floor(n * share - reach)), min(n, math.ceil(n * share + reach)) + 1)
    log_weights = gammaln(n + 1) - gammaln(m + 1) - gammaln(n - m + 1) + xlogy(m, share) + xlog1py(n - m, -share)
    can_reject = 2 * 0.5 ** m.astype(float) <= level
    k = np.where(can_reject, _largest_rejected(m, level=level), 0)
    gained = min(1.0, (share + difference) / (2 * share))
    rejected = bdtr(k, m, gained) + bdtr(k, m, 1 - gained)
    return float(np.exp(log_weights) @ np.where(can_reject, rejected, 0.0))


def _largest_rejected(m: NDArray[np.int64], *, level: float) -> NDArray[np.float64]:
    """Largest k with P(binomial(m, 1/2) <= k) <= level / 2: the normal approximation, then exact steps up."""
    normal = np.floor(m / 2 + float(ndtri(level / 2)) * np.sqrt(m) / 2 - 0.5)
    k = np.maximum(normal - 1, 0.0)
    for _ in range(3):
        k = np.where(bdtr(np.minimum(k + 1, m), m, 0.5) <= level / 2, k + 1, k)
    return np.asarray(k)


def detectable_mean(error: float, *, level: float = 0.05, power: float = POWER) -> float:
    """Smallest true mean difference found with this power: (z_a + z_b) times the standard error, at most 1.

    Miller 2024, arXiv 2411.00640, section 5, with the (clustered) standard error of the paired differences.
    An error of 0 says that nothing was seen to vary, not that everything can be seen: then it is 1.
    """
    if not error > 0:
        return 1.0
    return min(1.0, (float(ndtri(1 - level / 2)) + float(ndtri(power))) * error)


def in_words(n: int, detectable: float, *, level: float = 0.05, power: float = POWER) -> str:
    """The minimum detectable effect as a sentence."""
    items = f"these {n} items" if n != 1 else "this 1 item"
    if detectable >= 1:
        return f"{items} cannot see any difference reliably"
    return (
        f"{items} cannot see less than {100 * detectable:.1f} points: a smaller true difference is missed more than"
        f" {round(100 * (1 - power))} times in 100 (two-sided level {level:g}, before correction)"
    )
