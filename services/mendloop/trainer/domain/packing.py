"""Owns which examples share a row. Knows lengths; knows no tensor."""

from __future__ import annotations

from collections.abc import Sequence


def packed(lengths: Sequence[int], *, limit: int) -> list[tuple[int, ...]]:
    """Positions of the examples in each row: every example goes into the first row that still has room (first fit).

    A row holds at most `limit` tokens; an example that is longer has a row of its own. Order decides, so the same
    lengths give the same rows.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for at, length in enumerate(lengths):
        fitting = next((row for row, free in enumerate(room) if free >= length), None)
        if fitting is None:
            rows.append([at])
            room.append(limit - length)
            continue
        rows[fitting].append(at)
        room[fitting] -= length
    return [tuple(row) for row in rows]
