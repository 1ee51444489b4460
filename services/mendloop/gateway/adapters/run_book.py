"""The run book: follows the log and writes it down, a page of events and its cursor in one transaction.

Several replicas may write into one database: one at a time, and what another one wrote is skipped by its place in the
log. While the database is away it goes on reading, up to MOST_PENDING events, and writes them once it is back.
"""

from __future__ import annotations

import logging
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection, Engine, select, text

from mendloop.artifacts.store import ArtifactStore
from mendloop.bus.base import Bus, Cursor
from mendloop.core.errors import MendloopError, Retryable
from mendloop.core.telemetry import Telemetry
from mendloop.database.engine import reading, retryable
from mendloop.gateway.adapters.judgement import write_judgement
from mendloop.gateway.adapters.retention import AT_ONCE, Keep, let_go
from mendloop.gateway.adapters.run_tables import runs
from mendloop.gateway.adapters.run_writing import (
    NewFold,
    drop_gone,
    read_places,
    recalled_cursor,
    stored_cursor,
    write_events,
    write_places,
    write_runs,
)
from mendloop.gateway.adapters.same_log import require_same_log
from mendloop.gateway.adapters.stored_views import fold_stored
from mendloop.gateway.adapters.view_cache import Folded, ViewCache
from mendloop.runs.fold import fold_message, run_of
from mendloop.runs.log import recipe_facts
from mendloop.runs.model import RunView
from mendloop.runs.stream import TOPICS, LogReader, StreamEvent
from mendloop.v1 import loop_pb2

log = logging.getLogger(__name__)
MOST_PENDING = 10_000
PRUNE_EVERY_S = 60.0
RETRY_S = 1.0
_LOCK = zlib.crc32(b"mendloop/gateway/run-book")


class RunBook:
    """Runs as they stand, from the database and what is new on the bus. step() belongs to one thread.

    is_log_whole says that the bus forgets no event. recall_count events that are written already are given out again by
    the first steps, for who keeps the newest ones in memory. Raises InvalidRecipe where the database is of another log.
    """

    def __init__(
        self,
        bus: Bus,
        engine: Engine,
        *,
        store: ArtifactStore | None = None,
        is_log_whole: bool = False,
        recall_count: int = 0,
        keep: Keep | None = None,
        telemetry: Telemetry | None = None,
        cache: ViewCache | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        bus.ensure_topics(TOPICS)
        self._engine, self._store, self._clock = engine, store, clock
        self._cache, self._telemetry = cache or ViewCache(), telemetry
        self._keep, self._prune_at = keep or Keep(), 0.0
        cursor = stored_cursor(engine)
        require_same_log(engine, bus, cursor=cursor, is_log_whole=is_log_whole)
        earlier = recalled_cursor(engine, cursor=cursor, count=recall_count) if recall_count else cursor
        self._reader = LogReader(bus, cursor=earlier)
        self._pending: list[StreamEvent] = []
        self._written: Cursor = self._reader.cursor
        self._retry_at = 0.0
        self.dropped: Counter[str] = Counter()
        self.trouble = ""
        """Why what was read is not written down yet; empty where it is."""

    def step(self) -> tuple[list[StreamEvent], bool]:
        """Read one page and write it down; returns it, and whether the log may hold more.

        A page that cannot be written now is given out all the same, `trouble` says why. Raises Retryable where the
        log cannot be read, or where too much waits for the database.
        """
        if self._pending:
            self._write_pending()
        if len(self._pending) >= MOST_PENDING:
            raise Retryable(f"{len(self._pending)} events wait for the database: {self.trouble}")
        left_out = Counter(self._reader.dropped)
        found, is_more = self._reader.next()
        self._tell_left_out(self._reader.dropped - left_out)
        self._pending += found
        self._write_pending()
        if not is_more and not self.trouble:
            self._let_go()
        return found, is_more

    @property
    def cursor(self) -> Cursor:
        """The cursor behind everything that was read."""
        return self._reader.cursor

    def view(self, run_id: str) -> RunView | None:
        """The run as it is written down, or None where no event of it was. Raises Retryable where that cannot be read
        and the run is not held."""
        if "\0" in run_id:
            return None
        held = self._cache.get(run_id)
        try:
            with retryable(), reading(self._engine).begin() as db:
                row = db.execute(select(runs.c.event_count, runs.c.facts).where(runs.c.run_id == run_id)).first()
                if row is None:
                    return None
                if held is None or held.event_count < row.event_count:
                    held = fold_stored(db, run_id, event_count=row.event_count, facts=row.facts, held=held)
        except Retryable:
            if held is None:
                raise
            return held.view
        self._cache.put(held)
        return held.view

    def dropped_counts(self) -> dict[str, int]:
        """Events left out by reason: unreadable, repeated, of a run that was let go."""
        return dict(self._reader.dropped + self.dropped)

    def _write_pending(self) -> None:
        if (not self._pending and self._reader.cursor == self._written) or self._clock() < self._retry_at:
            return
        try:
            with retryable(), self._engine.begin() as db:
                folded, dropped = self._write(db, self._pending)
        except Retryable as error:
            if not self.trouble:
                log.warning("events wait for the database", extra={"reason": str(error)})
            self.trouble, self._retry_at = str(error), self._clock() + RETRY_S
            return
        for one in folded:
            self._cache.put(one)
        self.dropped += dropped
        self._tell_left_out(dropped)
        self._pending, self._written, self.trouble = [], self._reader.cursor, ""

    def _let_go(self) -> None:
        """Every PRUNE_EVERY_S, the runs that are kept no longer; at once again where there are more of them."""
        if self._clock() < self._prune_at:
            return
        try:
            gone = let_go(self._engine, self._keep)
        except Retryable as error:
            log.warning("runs are kept longer than wanted", extra={"reason": str(error)})
            gone = []
        for run_id in gone:
            self._cache.drop(run_id)
        self._prune_at = self._clock() + (0.0 if len(gone) == AT_ONCE else PRUNE_EVERY_S)
        if gone:
            log.info("runs let go", extra={"count": len(gone)})
            self.dropped["runs let go"] += len(gone)
            if self._telemetry is not None:
                self._telemetry.add("mendloop_runs_let_go", len(gone))

    def _tell_left_out(self, dropped: Counter[str]) -> None:
        for reason, count in dropped.items():
            if count and self._telemetry is not None:
                self._telemetry.add("mendloop_events_left_out", count, reason=reason)

    def _write(self, db: Connection, page: Sequence[StreamEvent]) -> tuple[list[Folded], Counter[str]]:
        if db.dialect.name == "postgresql":  # SQLite has one writer at a time anyway
            db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        known = read_places(db)
        fresh = [event for event in page if event.offset >= known.get(event.envelope.topic, {}).get(event.partition, 0)]
        by_run: dict[str, list[StreamEvent]] = {}
        for event in fresh:
            by_run.setdefault(run_of(event.message), []).append(event)
        dropped = drop_gone(db, by_run)
        runless = by_run.pop("", [])
        folds = self._fold_runs(db, by_run, dropped=dropped)
        told = {id(event) for event in (*runless, *(event for fold in folds for event in fold.new))}
        kept = [event for event in fresh if id(event) in told]  # in the order of the log
        if kept:
            write_events(db, kept)
        write_runs(db, folds)
        write_judgement(db, kept, views={fold.folded.view.run_id: fold.folded.view for fold in folds})
        write_places(db, self._reader.cursor, known=known)
        return [fold.folded for fold in folds], dropped

    def _fold_runs(
        self, db: Connection, by_run: Mapping[str, Sequence[StreamEvent]], *, dropped: Counter[str]
    ) -> list[NewFold]:
        columns = (runs.c.run_id, runs.c.event_count, runs.c.facts)
        rows = db.execute(select(*columns).where(runs.c.run_id.in_(list(by_run)))).all() if by_run else []
        stored = {row.run_id: row for row in rows}
        folds = []
        for run_id, new in by_run.items():
            row, known = stored.get(run_id), self._cache.get(run_id)
            if row is None:
                known = None
            elif known is None or known.event_count != row.event_count:
                known = fold_stored(db, run_id, event_count=row.event_count, facts=row.facts, held=known)
            fold = self._fold(known, new, dropped=dropped)
            if fold is not None:
                folds.append(fold)
        return folds

    def _fold(self, known: Folded | None, new: Sequence[StreamEvent], *, dropped: Counter[str]) -> NewFold | None:
        """The run with new events; those that cannot be read are left out. None where nothing is known of it then."""
        view, kept = known.view if known else None, []
        for event in new:
            try:
                view = fold_message(view, event.envelope, event.message)
            except MendloopError as error:
                dropped["unreadable"] += 1
                log.warning("event left out", extra={"event_id": event.envelope.event_id, "reason": str(error)})
                continue
            kept.append(event)
            if isinstance(event.message, loop_pb2.LoopRequested) and view.recipe is None:
                view = self._with_recipe(view, dropped=dropped)
        if view is None or not kept:
            return None
        return NewFold(Folded(view, (known.event_count if known else 0) + len(kept)), tuple(kept))

    def _with_recipe(self, view: RunView, *, dropped: Counter[str]) -> RunView:
        if self._store is None or view.request is None or view.request.run_spec is None:
            return view
        try:
            return replace(view, recipe=recipe_facts(self._store, view.request.run_spec))
        except (MendloopError, OSError, KeyError, ValueError) as error:
            dropped["recipe unreadable"] += 1
            log.warning("run without its recipe", extra={"run_id": view.run_id, "reason": str(error)})
            return view
