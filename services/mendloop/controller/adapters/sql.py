"""Runs in SQL, on SQLite or PostgreSQL: one transaction an event, one event of a run at a time.

PostgreSQL locks the run's row (SELECT ... FOR UPDATE); SQLite takes the write lock at the start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Table, select, text

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
from mendloop.database.engine import insert, retryable, upsert

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


def _locked(db: Connection, run_id: str, *, now: float) -> Run:
    """The run's row, created where an event came first, locked until the transaction ends."""
    new = {"run_id": run_id, **row_of(Run(started_at=now))}
    db.execute(insert(db, tables.runs).values(new).on_conflict_do_nothing())
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
                upsert(db, table, [{"run_id": after.run_id, **row_of(record)}])
