"""Pages of the read model, in SQL: runs, slices, dead letters, and a run's events of some types.

Filters and limits are the database's work; nothing here grows with the number of runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message
from sqlalchemy import Column, Connection, Engine, Select, and_, func, or_, select, tuple_

from mendloop.core.events import Envelope
from mendloop.database.engine import reading, retryable
from mendloop.gateway.adapters.event_rows import event_of, moment
from mendloop.gateway.adapters.run_tables import dead_letters, events, runs, slice_scores, slices
from mendloop.gateway.adapters.seen_runs import seen_by
from mendloop.gateway.domain.access import Principal
from mendloop.gateway.domain.paging import Page, cut, decode_key
from mendloop.gateway.domain.run_lines import LetterLine, RunLine, SliceLine, TrendPoint
from mendloop.runs.values import Cost

Line = TypeVar("Line")


class RunQueries:
    """Reads what a run book wrote. Every method raises Retryable where the database is away, ValueError for a cursor
    that no page of this list gave."""

    def __init__(self, engine: Engine) -> None:
        self._engine = reading(engine)

    def has(self, run_id: str) -> bool:
        """Whether any event of the run is kept."""
        with retryable(), self._engine.begin() as db:
            return db.execute(select(runs.c.run_id).where(runs.c.run_id == run_id)).first() is not None

    def list_runs(
        self, *, asker: Principal, limit: int, cursor: str = "", state: str = "", outcome: str = "", q: str = ""
    ) -> Page[RunLine]:
        """Runs of the asker, newest first; q is looked for in names, people, slices, causes and summaries, in any
        case."""
        dialect = self._engine.dialect.name
        seen = seen_by(asker, run_id=runs.c.run_id, started_by=runs.c.requested_by, dialect=dialect)
        wanted = select(runs).where(seen)
        if state:
            wanted = wanted.where(runs.c.state == state)
        if outcome:
            wanted = wanted.where(runs.c.outcome == outcome)
        for word in q.lower().split():
            wanted = wanted.where(runs.c.search.contains(word, autoescape=True))
        return self._newest_first(wanted, by=(runs.c.started_us, runs.c.run_id), line=_run, limit=limit, cursor=cursor)

    def list_slices(
        self, run_id: str, *, limit: int, cursor: str = "", q: str = "", cause: str = "", is_weak: bool | None = None
    ) -> Page[SliceLine]:
        """Slices of a run, the weak ones first, then by definition; each with its accuracy in every round and arm."""
        after = decode_key(cursor, (int, str, str))
        wanted = select(slices).where(slices.c.run_id == run_id)
        if is_weak is not None:
            wanted = wanted.where(slices.c.is_weak == is_weak)
        if cause:
            wanted = wanted.where(slices.c.cause == cause)
        for word in q.lower().split():
            wanted = wanted.where(func.lower(slices.c.definition).contains(word, autoescape=True))
        ordered = wanted.order_by(slices.c.is_weak.desc(), slices.c.definition, slices.c.slice_id).limit(limit + 1)
        if after:
            ordered = ordered.where(_slices_after(bool(after[0]), str(after[1]), str(after[2])))
        with retryable(), self._engine.begin() as db:
            total = _count(db, wanted)
            found = db.execute(ordered).all()
            trends = _trends(db, run_id, [row.slice_id for row in found[:limit]])
        keys = [(int(row.is_weak), row.definition, row.slice_id) for row in found]
        lines = [_slice(row, trend=trends.get(row.slice_id, ())) for row in found]
        return cut(lines, limit=limit, total=total, keys=keys)

    def slice_line(self, run_id: str, slice_id: str) -> SliceLine | None:
        """One slice of a run without its trend, or None."""
        wanted = select(slices).where(slices.c.run_id == run_id, slices.c.slice_id == slice_id)
        with retryable(), self._engine.begin() as db:
            row = db.execute(wanted).first()
        return _slice(row, trend=()) if row is not None else None

    def list_letters(self, *, limit: int, cursor: str = "", run_id: str = "") -> Page[LetterLine]:
        """Dead letters, newest first."""
        wanted = select(dead_letters)
        if run_id:
            wanted = wanted.where(dead_letters.c.run_id == run_id)
        by = (dead_letters.c.at_us, dead_letters.c.letter_id)
        return self._newest_first(wanted, by=by, line=letter_line, limit=limit, cursor=cursor)

    def events_of(
        self, run_id: str, *, types: Sequence[str], round: int | None = None, slice_id: str | None = None
    ) -> list[tuple[Envelope, Message]]:
        """A run's events of some types as they were committed, oldest first."""
        wanted = select(events).where(events.c.run_id == run_id, events.c.event_type.in_(types))
        if round is not None:
            wanted = wanted.where(events.c.round == round)
        if slice_id is not None:
            wanted = wanted.where(events.c.slice_id == slice_id)
        with retryable(), self._engine.begin() as db:
            return [event_of(row) for row in db.execute(wanted.order_by(events.c.serial))]

    def _newest_first(
        self,
        wanted: Select[Any],
        *,
        by: tuple[Column[int], Column[str]],
        line: Callable[[Any], Line],
        limit: int,
        cursor: str,
    ) -> Page[Line]:
        """A page of rows that fall by a time and an id, and how many there are on all pages."""
        after = decode_key(cursor, (int, str))
        ordered = wanted.order_by(*(column.desc() for column in by)).limit(limit + 1)
        with retryable(), self._engine.begin() as db:
            total = _count(db, wanted)
            found = db.execute(ordered.where(tuple_(*by) < after) if after else ordered).all()
        keys = [tuple(getattr(row, column.key) for column in by) for row in found]
        return cut([line(row) for row in found], limit=limit, total=total, keys=keys)


def letter_line(row: Any) -> LetterLine:
    """A dead letter of a row."""
    return LetterLine(
        row.letter_id,
        row.run_id,
        row.event_type,
        row.service,
        row.reason,
        moment(row.at_us),
        row.attempts,
        moment(row.replayed_us),
        row.replayed_by,
        row.replay_reason,
    )


def _count(db: Connection, wanted: Select[Any]) -> int:
    return db.execute(select(func.count()).select_from(wanted.subquery())).scalar_one()


def _slices_after(is_weak: bool, definition: str, slice_id: str) -> Any:
    """Behind a row of an order that falls in one column and rises in the others."""
    behind = tuple_(slices.c.definition, slices.c.slice_id) > (definition, slice_id)
    same = and_(slices.c.is_weak == is_weak, behind)
    return or_(same, slices.c.is_weak.is_(False)) if is_weak else same


def _trends(db: Connection, run_id: str, slice_ids: Sequence[str]) -> dict[str, tuple[TrendPoint, ...]]:
    wanted = select(slice_scores).where(slice_scores.c.run_id == run_id, slice_scores.c.slice_id.in_(slice_ids))
    trends: dict[str, tuple[TrendPoint, ...]] = {}
    for row in db.execute(wanted.order_by(slice_scores.c.round, slice_scores.c.arm)) if slice_ids else ():
        point = TrendPoint(row.round, row.arm, row.n, row.correct, row.low, row.high, row.is_weak)
        trends[row.slice_id] = (*trends.get(row.slice_id, ()), point)
    return trends


def _run(row: Any) -> RunLine:
    return RunLine(
        row.run_id,
        row.recipe,
        row.task,
        row.state,
        row.stage,
        row.round,
        row.outcome,
        row.summary,
        row.requested_by,
        moment(row.started_us),
        moment(row.finished_us),
        moment(row.updated_us),
        row.accuracy_before,
        row.accuracy_after,
        row.dead_letter_count,
        Cost(**json.loads(row.cost)),
    )


def _slice(row: Any, *, trend: tuple[TrendPoint, ...]) -> SliceLine:
    conditions = tuple((axis, value) for axis, value in json.loads(row.conditions))
    return SliceLine(
        row.slice_id, row.definition, conditions, row.is_weak, row.is_weak_now, row.cause, row.confidence, trend
    )
