"""Which single axis values are weak, where nobody has searched slices. Knows outcomes; knows no file.

A plain look at each value by itself; the evaluator's search over conjunctions, with a second split, stands above it.
"""

from __future__ import annotations

from collections.abc import Sequence

from mendloop.core.records import Outcome
from mendloop.core.stats import clopper_pearson
from mendloop.core.tasks import Conditions, matches

WHOLE_SET: Conditions = ()


def weak_slices(outcomes: Sequence[Outcome], *, weak_below: float, min_items: int) -> list[Conditions]:
    """Axis values with an accuracy surely below weak_below and below that of all other items; most failures first.

    Values with the same items count once. Where there is none, the whole set.
    """
    found: dict[frozenset[str], tuple[int, Conditions]] = {}
    pairs = sorted({(axis, value) for row in outcomes for axis, values in row.axes.items() for value in values})
    for pair in pairs:
        inside = [row for row in outcomes if matches(row.axes, [pair])]
        outside = [row for row in outcomes if not matches(row.axes, [pair])]
        if len(inside) >= min_items and outside and _is_weak(inside, outside, weak_below=weak_below):
            ids = frozenset(row.item_id for row in inside)
            found.setdefault(ids, (sum(not row.is_correct for row in inside), (pair,)))
    ranked = sorted(found.values(), key=lambda entry: (-entry[0], tuple(entry[1])))
    return [conditions for _, conditions in ranked] or [WHOLE_SET]


def _is_weak(inside: Sequence[Outcome], outside: Sequence[Outcome], *, weak_below: float) -> bool:
    _, high = clopper_pearson(sum(row.is_correct for row in inside), len(inside))
    return high < weak_below and high < sum(row.is_correct for row in outside) / len(outside)
