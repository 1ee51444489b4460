"""RunLog: the views of all runs, kept up to date from the bus. Safe to read from other threads while one refreshes."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from dataclasses import replace

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.bus.base import Bus, Cursor
from mendloop.core.errors import MendloopError
from mendloop.runs.fold import fold_message, run_of
from mendloop.runs.model import RunView
from mendloop.runs.parts import RecipeFacts
from mendloop.runs.stream import TOPICS, LogReader, StreamEvent

log = logging.getLogger(__name__)
KEEP_RUNS = 10_000


class RunLog:
    """Views by run id. With a store it also reads recipes. At most keep_runs are held: the oldest finished one goes
    first, then the oldest; events of a run that went are counted in `dropped` and change nothing."""

    def __init__(self, bus: Bus, *, store: ArtifactStore | None = None, keep_runs: int = KEEP_RUNS) -> None:
        if keep_runs < 1:
            raise ValueError(f"keep_runs is {keep_runs}; it must be at least 1")
        bus.ensure_topics(TOPICS)
        self._reader, self._store, self._keep_runs = LogReader(bus), store, keep_runs
        self._lock = threading.Lock()
        self._views: dict[str, RunView] = {}
        self._gone: set[str] = set()
        self.dropped: Counter[str] = Counter()

    def refresh(self) -> list[StreamEvent]:
        """Fold everything that was committed since the last call; returns it. Called by one thread at a time."""
        events: list[StreamEvent] = []
        is_more = True
        while is_more:
            page, is_more = self.step()
            events += page
        return events

    def step(self) -> tuple[list[StreamEvent], bool]:
        """Fold one page; returns it, and whether the log may hold more."""
        events, is_more = self._reader.next()
        for event in events:
            self._apply(event)
        return events, is_more

    @property
    def cursor(self) -> Cursor:
        """The cursor behind everything that was folded."""
        return self._reader.cursor

    def view(self, run_id: str) -> RunView | None:
        """The run, or None where no event of it was read."""
        with self._lock:
            return self._views.get(run_id)

    def views(self) -> list[RunView]:
        """All runs, newest first."""
        with self._lock:
            found = list(self._views.values())
        return sorted(found, key=lambda view: (view.started_at or view.first_at, view.run_id), reverse=True)

    def dropped_counts(self) -> dict[str, int]:
        """Events left out by reason: unreadable, repeated, without a run, of a run that is no longer held."""
        return dict(self._reader.dropped + self.dropped)

    def _apply(self, event: StreamEvent) -> None:
        run_id = run_of(event.message)
        if not run_id or run_id in self._gone:
            self.dropped["run no longer held" if run_id else "without a run"] += 1
            return
        known = self._views.get(run_id)
        try:
            view = fold_message(known, event.envelope, event.message)
        except MendloopError as error:
            self.dropped["unreadable"] += 1
            log.warning("event left out", extra={"event_id": event.envelope.event_id, "reason": str(error)})
            return
        if view.recipe is None and view.request is not None and (known is None or known.request is None):
            view = self._with_recipe(view, view.request.run_spec)
        with self._lock:
            self._views[run_id] = view
            if len(self._views) > self._keep_runs:
                self._let_go()

    def _with_recipe(self, view: RunView, run_spec: Artifact | None) -> RunView:
        if self._store is None or run_spec is None:
            return view
        try:
            facts = recipe_facts(self._store, run_spec)
        except (MendloopError, OSError, KeyError, ValueError) as error:
            self.dropped["recipe unreadable"] += 1
            log.warning("run without its recipe", extra={"run_id": view.run_id, "reason": str(error)})
            return view
        return replace(view, recipe=facts)

    def _let_go(self) -> None:
        oldest = min(self._views.values(), key=lambda view: (not view.is_finished, view.last_at))
        del self._views[oldest.run_id]
        self._gone.add(oldest.run_id)
        self.dropped["runs let go"] += 1


def recipe_facts(store: ArtifactStore, run_spec: Artifact) -> RecipeFacts:
    """What a view needs of a run specification. Raises CorruptArtifact, or KeyError for one of another version."""
    recipe = json.loads(store.get(run_spec))["recipe"]
    budget = recipe["budget"]
    prices = budget.get("prices", {})
    return RecipeFacts(
        name=recipe["name"],
        task=recipe["task"],
        rounds=recipe["rounds"],
        approval=recipe["approval"],
        trains_base=recipe["base"]["train"] is not None,
        axes=tuple(recipe["suite"]["axes"]),
        weak_below=recipe["suite"]["weak_below"],
        margin=recipe["gates"]["margin"],
        new_examples=budget["new_examples"],
        train_tokens=budget["train_tokens"],
        wall_s=budget["wall_s"],
        gpu_s=budget.get("gpu_s"),
        teacher_tokens=budget.get("teacher_tokens"),
        money=budget.get("money"),
        gpu_hour_price=prices.get("gpu_hour") or 0.0,
        teacher_mtokens_price=prices.get("teacher_mtokens") or 0.0,
    )
