"""Pages of a list of runs, newest first, with an opaque cursor that stays right while runs are added."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Listed(Protocol):
    """A run as a list orders it: newest first, by run id within one instant."""

    @property
    def order(self) -> tuple[str, str]:
        """Time of the start (ISO 8601, UTC) and run id."""


L = TypeVar("L", bound=Listed)


@dataclass(frozen=True, slots=True)
class Page(Generic[L]):
    """Some items and the cursor of the next page; empty where there is none."""

    items: tuple[L, ...]
    next_cursor: str


def page_of(items: Sequence[L], *, limit: int, cursor: str) -> Page[L]:
    """The page after the cursor of items that are sorted newest first. Raises ValueError for a cursor not made here."""
    start = _decode(cursor) if cursor else None
    rest = [item for item in items if start is None or item.order < start]
    page = tuple(rest[:limit])
    return Page(page, _encode(page[-1].order) if len(rest) > limit else "")


def _encode(order: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(order).encode()).decode().rstrip("=")


def _decode(text: str) -> tuple[str, str]:
    try:
        at, run_id = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{text[:40]!r} is no cursor; take next_cursor of the page before") from error
    if not isinstance(at, str) or not isinstance(run_id, str):
        raise ValueError(f"{text[:40]!r} is no cursor; take next_cursor of the page before")
    return at, run_id
