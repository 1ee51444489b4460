"""Splits a number of examples over slices. Knows weights; knows not where they come from."""

from __future__ import annotations

from collections.abc import Sequence


def allocate(count: int, weights: Sequence[int]) -> list[int]:
    """Whole shares proportional to the weights that add up to count (largest remainder, Hamilton's method).

    Ties go to the earlier weight; weights that are all 0 count as equal. Raises ValueError for a negative value.
    """
    if count < 0 or any(weight < 0 for weight in weights):
        raise ValueError(f"cannot split {count} by the weights {list(weights)}; none may be negative")
    if not weights:
        return []
    parts = list(weights) if any(weights) else [1] * len(weights)
    whole = sum(parts)
    shares = [count * part // whole for part in parts]
    remainders = [count * part % whole for part in parts]
    by_remainder = sorted(range(len(parts)), key=lambda index: (-remainders[index], index))
    for index in by_remainder[: count - sum(shares)]:
        shares[index] += 1
    return shares
