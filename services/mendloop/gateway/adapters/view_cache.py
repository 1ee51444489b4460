"""Views of the runs that somebody looks at or that go on: few, the least used goes first. Safe for several threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple

from mendloop.runs.model import RunView

KEEP_VIEWS = 128


class Folded(NamedTuple):
    """A view and how many stored events it is the fold of."""

    view: RunView
    event_count: int


class ViewCache:
    """At most keep views; of two folds of one run the one of more events stays."""

    def __init__(self, *, keep: int = KEEP_VIEWS) -> None:
        self._keep, self._lock = keep, threading.Lock()
        self._views: OrderedDict[str, Folded] = OrderedDict()

    def get(self, run_id: str) -> Folded | None:
        """The newest fold that is held."""
        with self._lock:
            found = self._views.get(run_id)
            if found is not None:
                self._views.move_to_end(run_id)
            return found

    def peek(self, run_id: str) -> Folded | None:
        """The same, but it counts as no use: a look at all open runs must not push out the others."""
        with self._lock:
            return self._views.get(run_id)

    def put(self, folded: Folded) -> None:
        """Hold a fold."""
        run_id = folded.view.run_id
        with self._lock:
            known = self._views.get(run_id)
            if known is None or known.event_count <= folded.event_count:
                self._views[run_id] = folded
            self._views.move_to_end(run_id)
            while len(self._views) > self._keep:
                self._views.popitem(last=False)

    def drop(self, run_id: str) -> None:
        """Hold the run no longer."""
        with self._lock:
            self._views.pop(run_id, None)
