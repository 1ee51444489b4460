"""Pages by key: the next page begins after the last row of the one before, so that rows may be added meanwhile.

A cursor is an opaque string of the values that a list is ordered by.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
MAX_NUMBER = 2**63 - 1
Key = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some rows, the cursor of the next page (empty where there is none), and how many rows all pages have."""

    items: tuple[T, ...]
    next_cursor: str
    total: int


def cut(rows: Sequence[T], *, limit: int, total: int, keys: Sequence[Key]) -> Page[T]:
    """A page of rows that were read one further than the limit; keys are theirs, in the same order."""
    if not limit > 0:
        raise ValueError(f"limit is {limit}; it must be at least 1")
    is_more = len(rows) > limit
    return Page(tuple(rows[:limit]), encode_key(keys[limit - 1]) if is_more else "", total)


def encode_key(key: Key) -> str:
    """The cursor behind the row with this key."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def decode_key(cursor: str, kinds: tuple[type[str] | type[int], ...]) -> Key | None:
    """The key of a cursor; None for an empty one. Raises ValueError for one that no page of this list gave."""
    if not cursor:
        return None
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, TypeError, RecursionError) as error:
        raise _foreign(cursor) from error
    if not isinstance(values, list) or len(values) != len(kinds):
        raise _foreign(cursor)
    if not all(_fits(value, kind) for value, kind in zip(values, kinds, strict=True)):
        raise _foreign(cursor)
    return tuple(values)


def _fits(value: object, kind: type[str] | type[int]) -> bool:
    """NUL and lone surrogates stand in no row and PostgreSQL refuses them; larger numbers stand in no column."""
    if kind is str:
        return isinstance(value, str) and "\0" not in value and not any("\ud800" <= sign <= "\udfff" for sign in value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_NUMBER


def _foreign(cursor: str) -> ValueError:
    return ValueError(f"{cursor[:40]!r} is no cursor of this list; take next_cursor of the page before")
