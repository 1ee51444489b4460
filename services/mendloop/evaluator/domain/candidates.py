"""Owns the candidate slices of a search as bit masks over items. Knows axes; knows no score and no statistics.

One row of masks is one candidate, one bit is one item. Words are 64 items wide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from mendloop.core.records import Axes

Bits = NDArray[np.uint64]
Definition = tuple[tuple[str, str], ...]
"""Conditions of a slice, sorted by axis; () is all items."""
CHUNK_BYTES = 16 * 1024 * 1024
"""Masks that are held at once."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Every slice that is tested, from general to special.

    Masks are made of the masks of single conditions when they are asked for: kept whole, those of 12,000 candidates
    over 100,000 items would take 150 MB.
    """

    definitions: tuple[Definition, ...]
    singles: Bits
    """(conditions + 1, words): the items of each single condition; the last row is all items."""
    parts: NDArray[np.intp]
    """(candidates, max_depth): the rows of singles that make up each candidate, filled up with the last row."""
    too_small_count: int
    """Conjunctions left out for having too few items on a split; narrower ones of theirs are not counted."""
    duplicate_count: int
    """Conjunctions left out for holding exactly the items of a more general candidate."""

    def masks(self, indexes: Sequence[int]) -> Bits:
        """(indexes, words): the items of some candidates."""
        rows = self.parts[np.asarray(indexes, dtype=np.intp)]
        masks = self.singles[rows[:, 0]]
        for column in range(1, rows.shape[1]):
            masks &= self.singles[rows[:, column]]
        return masks

    def chunks(self, indexes: Sequence[int]) -> Iterator[Bits]:
        """The masks of some candidates in order, CHUNK_BYTES at a time."""
        size = max(1, CHUNK_BYTES // max(1, self.singles.shape[1] * 8))
        for start in range(0, len(indexes), size):
            yield self.masks(indexes[start : start + size])


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
    kept: list[tuple[int, ...]] = []
    seen: set[bytes] = set()
    too_small = duplicates = 0
    level: list[tuple[int, ...]] = [()]
    for depth in range(max_depth + 1):
        following: list[tuple[int, ...]] = []
        for rows in level:
            mask = np.bitwise_and.reduce(singles[[*rows, -1]])
            digest = blake2b(mask.tobytes(), digest_size=16).digest()
            if digest in seen:
                duplicates += 1
                continue
            seen.add(digest)
            if not rows and not _is_large(mask[np.newaxis], splits=splits)[0]:
                too_small += 1
                continue
            kept.append(rows)
            if depth == max_depth:
                continue
            start = first[rank[pairs[rows[-1]][0]] + 1] if rows else 0
            wider = singles[start:-1] & mask
            large = _is_large(wider, splits=splits)
            too_small += int((~large & (count(wider) > 0)).sum())
            following += [(*rows, start + int(i)) for i in np.flatnonzero(large)]
        level = following
    parts = np.full((len(kept), max_depth), len(pairs), dtype=np.intp)
    for index, rows in enumerate(kept):
        parts[index, : len(rows)] = rows
    definitions = tuple(tuple(pairs[row] for row in rows) for rows in kept)
    return Candidates(definitions, singles, parts, too_small, duplicates)


def _singles(items: Sequence[Axes], *, axes: Sequence[str]) -> tuple[list[tuple[str, str]], Bits]:
    """Every (axis, value) in order, and the mask of each; one row more for all items."""
    rows: dict[tuple[str, str], list[int]] = {}
    for index, values in enumerate(items):
        for axis in set(axes):
            for value in values.get(axis, ()):
                rows.setdefault((axis, value), []).append(index)
    pairs = sorted(rows)
    masks = [_mask(rows[pair], item_count=len(items)) for pair in pairs]
    return pairs, np.stack([*masks, pack(np.ones(len(items), dtype=np.bool_))])


def _mask(rows: Sequence[int], *, item_count: int) -> Bits:
    flags = np.zeros(item_count, dtype=np.bool_)
    flags[rows] = True
    return pack(flags)


def _is_large(masks: Bits, *, splits: Sequence[tuple[Bits, int]]) -> NDArray[np.bool_]:
    large = np.ones(len(masks), dtype=np.bool_)
    for within, fewest in splits:
        large &= count(masks & within) >= fewest
    return large
