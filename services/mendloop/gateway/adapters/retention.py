"""Which finished runs are kept, and letting the others go with everything that is written of them.

Of a run that went its id stays, so that a late event brings back no torn half of it. Runs that go on are never let go.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, delete, or_, select

from mendloop.database.engine import insert, retryable
from mendloop.gateway.adapters.run_tables import (
    dead_letters,
    events,
    gone_runs,
    promises,
    runs,
    slice_scores,
    slices,
    verdict_cases,
)

AT_ONCE = 20
"""Runs of one transaction: the writer waits for no longer than their rows take."""
DAY_US = 24 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class Keep:
    """At most so many finished runs, for at most so many days after their end; 0 days: no limit."""

    runs: int = 10_000
    days: float = 0

    def __post_init__(self) -> None:
        if self.runs < 1 or self.days < 0:
            raise ValueError(f"{self.runs} runs and {self.days} days cannot be kept; at least 1 run and 0 days")


def let_go(engine: Engine, keep: Keep, *, clock: Callable[[], float] = time.time) -> list[str]:
    """Delete at most AT_ONCE runs that are kept no longer, the oldest first; returns their ids.

    Raises Retryable where the database is busy or away.
    """
    with retryable(), engine.begin() as db:
        found = _beyond(db, keep, now_us=int(clock() * 1e6))
        if not found:
            return []
        for table in (events, slices, slice_scores, dead_letters, promises, verdict_cases, runs):
            db.execute(delete(table).where(table.c.run_id.in_(found)))
        db.execute(insert(db, gone_runs).on_conflict_do_nothing(), [{"run_id": run_id} for run_id in found])
        return found


def _beyond(db: Connection, keep: Keep, *, now_us: int) -> list[str]:
    """Finished runs that ended before the oldest of those kept by number, or too long ago."""
    finished = select(runs.c.finished_us).where(runs.c.finished_us > 0)
    newest_first = finished.order_by(runs.c.finished_us.desc(), runs.c.run_id.desc())
    oldest_kept = db.execute(newest_first.offset(keep.runs - 1).limit(1)).scalar()
    limits = []
    if oldest_kept is not None:
        limits.append(runs.c.finished_us < oldest_kept)
    if keep.days:
        limits.append(runs.c.finished_us < now_us - int(keep.days * DAY_US))
    if not limits:
        return []
    wanted = select(runs.c.run_id).where(runs.c.finished_us > 0, or_(*limits))
    ordered = wanted.order_by(runs.c.finished_us, runs.c.run_id).limit(AT_ONCE)
    return [row.run_id for row in db.execute(ordered)]
