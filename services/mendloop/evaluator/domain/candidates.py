"""Owns the candidate slices of a search as bit masks over items. Knows axes; knows no score and no statistics.

One row of masks is one candidate, one bit is one item. Words are 64 items wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mendloop.core.records import Axes

Bits = NDArray[np.uint64]
Definition = tuple[tuple[str, str], ...]
"""Conditions of a slice, sorted by axis; () is all items."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Every slice that is tested. masks is (candidates, words); definitions go from general to special."""

    definitions: tuple[Definition, ...]
    masks: Bits
    too_small_count: int
    """Conjunctions left out for having too few items on a split; narrower ones of theirs are not counted."""
    duplicate_count: int
    """Conjunctions left out for holding exactly the items of a more general candidate."""


def pack(flags: NDArray[np.bool_]) -> Bits:
    """Booleans (..., items) as words (..., words)."""
    padding = [(0, 0)] * (flags.ndim - 1) + [(0, -flags.shape[-1] % 64)]
    return np.packbits(np.pad(flags, padding), axis=-1).view(np.uint64)


def count(masks: Bits) -> NDArray[np.int64]:
    """Items per row."""
    counts: NDArray[np.int64] = np.bitwise_count(masks).sum(axis=-1, dtype=np.int64)
    return counts


def candidates_of(
    items: Sequence[Axes], *, axes: Sequence[str], max_depth: int, splits: Sequence[tuple[Bits, int]]
) -> Candidates:
    """All items, then conjunctions of up to max_depth values of different axes, breadth first.

    splits holds (mask of the split, fewest items that a candidate must have in it). A conjunction below a minimum is
    left out with everything narrower, before any score is looked at: leaving out is no test. An item may have several
    values on one axis.
    """
    pairs, singles = _singles(items, axes=axes)
    rank = {axis: i for i, axis in enumerate(sorted(set(axes)))}
    first = [sum(rank[axis] <= r for axis, _ in pairs) for r in range(-1, len(rank))]
    everything = pack(np.ones(len(items), dtype=np.bool_))
    definitions: list[Definition] = []
    kept: list[Bits] = []
    seen: set[bytes] = set()
    too_small = duplicates = 0
    level: list[tuple[Definition, Bits]] = [((), everything)]
    for depth in range(max_depth + 1):
        following: list[tuple[Definition, Bits]] = []
        for definition, mask in level:
            if mask.tobytes() in seen:
                duplicates += 1
                continue
            seen.add(mask.tobytes())
            if not _is_large(mask[np.newaxis], splits=splits)[0]:
                too_small += 1
                continue
            definitions.append(definition)
            kept.append(mask)
            if depth == max_depth:
                continue
            start = first[rank[definition[-1][0]] + 1] if definition else 0
            wider = singles[start:] & mask
            large = _is_large(wider, splits=splits)
            too_small += int((~large & (count(wider) > 0)).sum())
            following += [((*definition, pairs[start + i]), wider[i]) for i in np.flatnonzero(large)]
        level = following
    masks = np.stack(kept) if kept else np.zeros((0, everything.shape[-1]), dtype=np.uint64)
    return Candidates(tuple(definitions), masks, too_small, duplicates)


def _singles(items: Sequence[Axes], *, axes: Sequence[str]) -> tuple[list[tuple[str, str]], Bits]:
    """Every (axis, value) in order, and the mask of each."""
    rows: dict[tuple[str, str], list[int]] = {}
    for index, values in enumerate(items):
        for axis in set(axes):
            for value in values.get(axis, ()):
                rows.setdefault((axis, value), []).append(index)
    pairs = sorted(rows)
    flags = np.zeros((len(pairs), len(items)), dtype=np.bool_)
    for row, pair in enumerate(pairs):
        flags[row, rows[pair]] = True
    return pairs, pack(flags)


def _is_large(masks: Bits, *, splits: Sequence[tuple[Bits, int]]) -> NDArray[np.bool_]:
    large = np.ones(len(masks), dtype=np.bool_)
    for within, fewest in splits:
        large &= count(masks & within) >= fewest
    return large
