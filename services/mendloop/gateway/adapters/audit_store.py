"""The audit log in SQL: who did what, when, on which run, why and from where. Rows are only added."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Engine

from mendloop.database.engine import reading, retryable
from mendloop.gateway.adapters import access_tables as tables
from mendloop.gateway.domain.access import Principal

MAX_LENGTH = 2000


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that was done or refused. action is e.g. `POST /v1/runs/r1/cancel`, result the answer's status."""

    who: str
    credential: str
    action: str
    result: str
    run_id: str = ""
    reason: str = ""
    address: str = ""

    @classmethod
    def of(cls, principal: Principal, action: str, result: str, **more: str) -> Deed:
        """What a principal did."""
        return cls(principal.name, principal.credential, action, result, **more)


@dataclass(frozen=True, slots=True)
class Entry:
    """A deed in the log: its number, which grows, and its Unix time."""

    entry: int
    at: float
    deed: Deed


class AuditStore:
    """The log of a database. Every method raises Retryable where the database is busy or away."""

    def __init__(self, engine: Engine, *, clock: Callable[[], float]) -> None:
        self._engine, self._clock = engine, clock

    def add(self, deed: Deed) -> None:
        """Write a deed down. Texts are cut to MAX_LENGTH characters."""
        row = {name: getattr(deed, name)[:MAX_LENGTH] for name in Deed.__dataclass_fields__}
        with retryable(), self._engine.begin() as db:
            db.execute(sa.insert(tables.audit).values(at=self._clock(), **row))

    def page(self, *, limit: int, before: int = 0, run_id: str = "", who: str = "") -> list[Entry]:
        """Entries, newest first, with numbers under `before` (0: from the newest)."""
        found = tables.audit.c
        query = sa.select(tables.audit).order_by(found.entry.desc()).limit(limit)
        if before:
            query = query.where(found.entry < before)
        if run_id:
            query = query.where(found.run_id == run_id)
        if who:
            query = query.where(found.who == who)
        with retryable(), reading(self._engine).begin() as db:
            rows = db.execute(query).all()
        return [
            Entry(row.entry, row.at, Deed(**{name: getattr(row, name) for name in Deed.__dataclass_fields__}))
            for row in rows
        ]
