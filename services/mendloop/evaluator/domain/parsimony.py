"""Owns the report: the fewest slices that explain where accuracy is below the threshold.

Knows masks and counts; knows neither outcomes nor events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mendloop.evaluator.domain.candidates import Bits
from mendloop.evaluator.domain.weakness import SliceTable


@dataclass(frozen=True, slots=True)
class Choice:
    """A candidate for the report, with the items that it was chosen for."""

    index: int
    unexplained_count: int
    items: Bits


def explanation(table: SliceTable, indexes: Sequence[int], alive: Bits) -> list[Choice]:
    """Slices that leave nothing weak among the candidates, in the order of choice.

    Greedy: the next slice is the one with the most unexplained failure mass, the log-likelihood ratio of its remaining
    items against the threshold (the expectation-based scan statistic: Kulldorff 1997, Commun. Stat. Theory Methods
    26:1481; Neill 2009, Int. J. Forecast. 25:498). Its items are removed and the others are tested again on what is
    left, so that a slice which only shares failures with a weak one is not reported. A narrow slice outweighs a wider
    one wherever the rest of the wider one is at or above the threshold; where the rest is weak alike, the wider one
    outweighs it.
    """
    chosen: list[Choice] = []
    weak = table.weak(indexes, alive)
    while weak:
        best = _most_general(table, _heaviest(table, weak, alive), weak, alive)
        parts = _parts(table, best, weak, alive)
        chosen += parts
        for part in parts:
            alive = alive & ~part.items
        taken = {part.index for part in parts}
        weak = table.weak([index for index in weak if index not in taken and index != best], alive)
    return chosen


def _heaviest(table: SliceTable, weak: Sequence[int], alive: Bits) -> int:
    """Definitions go from general to special, so argmax breaks ties in favour of the general one."""
    return weak[int(np.argmax(table.failure_mass(weak, alive)))]


def _most_general(table: SliceTable, best: int, weak: Sequence[int], alive: Bits) -> int:
    """Climbs while the rest of a wider slice is below the threshold too and no better than the slice itself."""
    while True:
        items = table.mask(best) & alive
        alike = [wide for wide in table.wider(weak, best, alive) if _is_alike(table, items, wide, weak, alive)]
        if not alike:
            return best
        best = _heaviest(table, alike, alive)


def _is_alike(table: SliceTable, items: Bits, wide: int, weak: Sequence[int], alive: Bits) -> bool:
    rest = table.mask(wide) & alive & ~items
    correct, n = table.tally_of(rest)
    looks = len(table.narrower(range(len(table.candidates.definitions)), wide, alive))
    return correct < table.rules.weak_below * n and not table.differs(items, rest, looks=looks)


def _parts(table: SliceTable, best: int, weak: Sequence[int], alive: Bits) -> list[Choice]:
    """The narrower slices instead of the slice, where they leave a healthy rest of it; else the slice itself.

    One narrow slice that leaves a healthy rest always outweighs the wide one; several together may not.
    """
    items = table.mask(best) & alive
    whole = Choice(best, _failures(table, items), items)
    inside = table.narrower(weak, best, alive)
    pieces = explanation(table, inside, items)
    if not pieces:
        return [whole]
    covered = np.bitwise_or.reduce([piece.items for piece in pieces])
    rest = items & ~covered
    correct, n = table.tally_of(rest)
    is_healthy = n >= table.rules.min_items and correct >= table.rules.weak_below * n
    if is_healthy and table.differs(covered, rest, looks=len(inside)):
        return pieces
    return [whole]


def _failures(table: SliceTable, items: Bits) -> int:
    correct, n = table.tally_of(items)
    return n - correct
