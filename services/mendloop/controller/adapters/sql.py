"""Runs in SQL, on SQLite or PostgreSQL: one transaction an event, one event of a run at a time.

PostgreSQL locks the run's row (SELECT ... FOR UPDATE); SQLite takes the write lock at the start (BEGIN IMMEDIATE),
for a transaction that begins with a read cannot be upgraded while another writes.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from mendloop.bus.runtime import Emit
from mendloop.controller.adapters import tables
from mendloop.controller.adapters.rows import outputs_json, outputs_of, record_of, row_of
from mendloop.controller.domain.controls import ArmDifference, ArmFailure, ArmOutcome
from mendloop.controller.domain.records import (
    Approval,
    Batch,
    Diagnosis,
    Evaluation,
    Gate,
    Plan,
    Reservation,
    Review,
    Round,
    Run,
    RunState,
    SealedQuery,
    Training,
)
from mendloop.controller.domain.steering import Steering
from mendloop.controller.ports import Change
from mendloop.core.errors import InvalidRecipe, Retryable

BUSY_TIMEOUT_S = 30.0
_RETRYABLE_SQLSTATES = ("40001", "40P01", "55P03", "57P01", "57P03", "08000", "08003", "08006")
"""Serialization failure, deadlock, lock not available, shutdown, starting up, connection lost."""

_RECORDS: Mapping[str, tuple[Table, type[Any]]] = {
    "evaluations": (tables.evaluations, Evaluation),
    "diagnoses": (tables.diagnoses, Diagnosis),
    "trainings": (tables.trainings, Training),
    "batches": (tables.batches, Batch),
    "approvals": (tables.approvals, Approval),
    "reviews": (tables.reviews, Review),
    "plans": (tables.plans, Plan),
    "reservations": (tables.reservations, Reservation),
    "rounds": (tables.rounds, Round),
    "gates": (tables.gates, Gate),
    "queries": (tables.sealed_queries, SealedQuery),
    "steerings": (tables.steerings, Steering),
    "arms": (tables.arms, ArmOutcome),
    "differences": (tables.arm_differences, ArmDifference),
    "arm_failures": (tables.arm_failures, ArmFailure),
}


def open_engine(url: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Engine:
    """The engine of a database URL. Raises InvalidRecipe for a URL that is neither SQLite nor PostgreSQL."""
    try:
        parsed = make_url(url)
    except Exception as error:  # SQLAlchemy raises several kinds for a malformed URL
        raise InvalidRecipe(
            f"MENDLOOP_DATABASE_URL cannot be read: {type(error).__name__}; see its description"
        ) from None
    name = parsed.get_backend_name()
    if name == "postgresql":
        return create_engine(
            parsed.set(drivername="postgresql+psycopg"), pool_size=2, max_overflow=8, pool_pre_ping=True
        )
    if name != "sqlite":
        raise InvalidRecipe(
            f"MENDLOOP_DATABASE_URL names {name!r}; it must be sqlite:///PATH or postgresql+psycopg://..."
        )
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed, connect_args={"timeout": busy_timeout_s})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_immediate)
    return engine


class SqlRuns:
    """The state of all runs in a database that is migrated."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def apply(self, run_id: str, *, event_id: str, event_type: str, now: float, change: Change) -> list[Emit]:
        """Change a run and keep the outputs under the event's id, in one transaction. See ports.Runs."""
        with retryable(), self._engine.begin() as db:
            run = _locked(db, run_id, now=now)
            stored = db.execute(
                select(tables.handled_events.c.outputs).where(tables.handled_events.c.event_id == event_id)
            ).scalar_one_or_none()
            if stored is not None:
                return outputs_of(stored)
            before = _state(db, run_id, run)
            after, emits = change(before, _OtherRuns(db, run_id))
            _save(db, before, after)
            db.execute(
                tables.handled_events.insert().values(
                    event_id=event_id,
                    run_id=run_id,
                    event_type=event_type,
                    handled_at=now,
                    outputs=outputs_json(list(emits)),
                )
            )
            return list(emits)

    def load(self, run_id: str) -> RunState | None:
        """What is known of a run, or None."""
        with retryable(), self._engine.connect() as db:
            row = db.execute(select(tables.runs).where(tables.runs.c.run_id == run_id)).mappings().one_or_none()
            return _state(db, run_id, record_of(Run, dict(row))) if row is not None else None


class _OtherRuns:
    """Elsewhere, read in the run's own transaction."""

    def __init__(self, db: Connection, run_id: str) -> None:
        self._db, self._run_id = db, run_id

    def sealed_answers(self, suite: str) -> Sequence[bool]:
        """See ports.Elsewhere. On SQLite the transaction holds the write lock already."""
        if self._db.dialect.name == "postgresql":
            lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:suite, 0))")
            self._db.execute(lock, {"suite": suite})
        queries = tables.sealed_queries
        others = select(queries.c.is_told).where(queries.c.suite == suite, queries.c.run_id != self._run_id)
        return list(self._db.execute(others).scalars())


@contextmanager
def retryable() -> Iterator[None]:
    """Turns what passes by itself into Retryable: a busy database, a lost connection, a serialization failure."""
    try:
        yield
    except DBAPIError as error:
        state = str(getattr(error.orig, "sqlstate", "") or "")
        is_locked = isinstance(error.orig, sqlite3.OperationalError) and "locked" in str(error.orig)
        is_away = isinstance(error, OperationalError | InterfaceError) and not state and not _is_sqlite(error)
        if error.connection_invalidated or state in _RETRYABLE_SQLSTATES or is_locked or is_away:
            raise Retryable(f"the database is busy or away: {error.orig}") from error
        raise


def _is_sqlite(error: DBAPIError) -> bool:
    return isinstance(error.orig, sqlite3.Error)


def _prepare_sqlite(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # SQLAlchemy begins, not the driver, which would begin too late
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA synchronous=FULL")
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:  # the switch to WAL does not wait for the busy timeout
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin_immediate(db: Connection) -> None:
    db.exec_driver_sql("BEGIN IMMEDIATE")


def _insert(db: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if db.dialect.name == "postgresql" else sqlite.insert(table)


def _locked(db: Connection, run_id: str, *, now: float) -> Run:
    """The run's row, created where an event came first, locked until the transaction ends."""
    new = {"run_id": run_id, **row_of(Run(started_at=now))}
    db.execute(_insert(db, tables.runs).values(new).on_conflict_do_nothing())
    row = db.execute(select(tables.runs).where(tables.runs.c.run_id == run_id).with_for_update()).mappings().one()
    return record_of(Run, dict(row))


def _state(db: Connection, run_id: str, run: Run) -> RunState:
    loaded: dict[str, tuple[Any, ...]] = {}
    for name, (table, kind) in _RECORDS.items():
        rows = db.execute(select(table).where(table.c.run_id == run_id).order_by(*table.primary_key.columns)).mappings()
        loaded[name] = tuple(record_of(kind, dict(row)) for row in rows)
    return RunState(run_id, run, **loaded)


def _save(db: Connection, before: RunState, after: RunState) -> None:
    """Write what differs."""
    if after.run != before.run:
        db.execute(tables.runs.update().where(tables.runs.c.run_id == after.run_id).values(**row_of(after.run)))
    for name, (table, _) in _RECORDS.items():
        known = set(getattr(before, name))
        for record in getattr(after, name):
            if record not in known:
                _upsert(db, table, {"run_id": after.run_id, **row_of(record)})


def _upsert(db: Connection, table: Table, row: dict[str, Any]) -> None:
    keys = {column.name for column in table.primary_key.columns}
    insert = _insert(db, table).values(row)
    changed = {name: insert.excluded[name] for name in row if name not in keys}
    db.execute(insert.on_conflict_do_update(index_elements=sorted(keys), set_=changed))
