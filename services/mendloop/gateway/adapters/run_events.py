"""A run's events as a log, from the database: for readers of one run that lie further back than the feed's memory.

A run is read in the order in which its events were written down. A cursor of it stands where the run began in all
partitions, but for those that the run's own events have moved: good in every stream, and it passes no event of the run
that was not given out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, select

from mendloop.bus.base import Cursor, Delivery, Log, joined
from mendloop.database.engine import reading, retryable
from mendloop.gateway.adapters.event_rows import envelope_of
from mendloop.gateway.adapters.run_tables import events, runs
from mendloop.gateway.ports import Runs
from mendloop.runs.stream import decode_cursor, encode_cursor


class RunEvents:
    """The events of runs that a run book wrote. Every method raises Retryable where the database is away."""

    def __init__(self, engine: Engine, *, followed: Runs, log: Log) -> None:
        self._engine, self._followed, self._log = reading(engine), followed, log

    def start(self, run_id: str, *, cursor: str) -> str:
        """A cursor that passes what the given one does, and what was committed before the run's first event. Raises
        ValueError for one that nothing gave."""
        place = decode_cursor(cursor)
        with retryable(), self._engine.begin() as db:
            began = db.execute(select(runs.c.began).where(runs.c.run_id == run_id)).scalar()
        return encode_cursor(joined(place, decode_cursor(began))) if began else cursor

    def of(self, run_id: str) -> Log:
        """The run's events as a log of its own."""
        return _OfRun(self._engine, run_id, followed=self._followed, log=self._log)


class _OfRun:
    def __init__(self, engine: Engine, run_id: str, *, followed: Runs, log: Log) -> None:
        self._engine, self._run_id, self._followed, self._log = engine, run_id, followed, log

    def read(self, topics: Sequence[str], *, cursor: Cursor | None = None, limit: int = 1000) -> list[Delivery]:
        """The run's events that a cursor has not passed, at most limit. While events wait for the database, the log
        of all runs is read: it holds what the database does not yet."""
        if self._followed.trouble:
            return self._log.read(topics, cursor=cursor, limit=limit)
        passed = cursor or {}
        ours = select(events).where(events.c.run_id == self._run_id, events.c.topic.in_(topics))
        places = ours.with_only_columns(events.c.serial, events.c.topic, events.c.part, events.c.pos)
        with retryable(), self._engine.begin() as db:
            unmet = [
                row.serial
                for row in db.execute(places.order_by(events.c.serial))
                if row.pos >= passed.get(row.topic, {}).get(row.part, 0)
            ][:limit]
            if not unmet:
                return []
            between = events.c.serial.between(unmet[0], unmet[-1])
            wanted, met = set(unmet), ours.where(between).order_by(events.c.serial)
            return [_delivery(row) for row in db.execute(met) if row.serial in wanted]


def _delivery(row: Any) -> Delivery:
    return Delivery(envelope_of(row), row.topic, row.part, row.pos)
