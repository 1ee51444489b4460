"""What a number of items cannot show: the minimum detectable effect, as a number and in words. Knows counts only."""

from __future__ import annotations

import math

from scipy.special import ndtri

POWER = 0.8


def detectable_proportion(n: int, *, discordant: int, level: float = 0.05, power: float = POWER) -> float:
    """Smallest true difference of two paired proportions that McNemar's test on n items finds with this power.

    Solves n = (z_a sqrt(s) + z_b sqrt(s - d^2))^2 / d^2 for d (Connor 1987, Biometrics 43:207), with s the share of
    discordant items: the observed one, but never below d itself, because a difference d needs at least d of them.
    1 where even the largest difference would be missed: n flips all one way have the exact p-value 2 / 2^n.
    """
    if n < 1 or not 0 <= discordant <= n:
        raise ValueError(f"discordant is {discordant} of n = {n} items; it must lie in 0..n, and n above 0")
    z_level, z_power = float(ndtri(1 - level / 2)), float(ndtri(power))
    observed = discordant / n

    def shortfall(difference: float) -> float:
        share = max(observed, difference)
        needed = z_level * math.sqrt(share) + z_power * math.sqrt(max(share - difference**2, 0.0))
        return needed**2 - n * difference**2

    low, high = 0.0, 1.0
    if shortfall(high) > 0 or 2 * 0.5**n > level:
        return 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if shortfall(middle) > 0 else (low, middle)
    return high


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
