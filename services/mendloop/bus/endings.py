"""Runs that are over: work for them is not begun, and work that has begun stops. Shared by all services on any bus.

Knows events with a position and a document of the artifact store a run; knows not why a run ended.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from google.protobuf.message import Message

from mendloop.artifacts.store import ArtifactStore
from mendloop.bus.runtime import Emit, Event, Handler
from mendloop.core.errors import Interrupted

log = logging.getLogger(__name__)
ENDED = "ended"
"""Namespace of the documents, by run id."""
LOOK_S = 2.0
"""Seconds between two looks while work goes on."""


def note_ended(store: ArtifactStore, run_id: str) -> None:
    """Say that a run is over."""
    store.put_doc(ENDED, run_id, b"{}")


def has_ended(store: ArtifactStore, run_id: str) -> bool:
    """Whether a run is over."""
    return store.get_doc(ENDED, run_id) is not None


def unless_ended(
    handlers: Mapping[type[Message], Handler], *, store: ArtifactStore, clock: Callable[[], float] = time.monotonic
) -> dict[type[Message], Handler]:
    """The handlers, which leave out events of runs that are over and are told to stop when a run ends meanwhile."""
    watched = until_ended(handlers, store=store, clock=clock)
    return {kind: partial(_skipping, handler=handler, store=store) for kind, handler in watched.items()}


def until_ended(
    handlers: Mapping[type[Message], Handler], *, store: ArtifactStore, clock: Callable[[], float] = time.monotonic
) -> dict[type[Message], Handler]:
    """The handlers, told to stop when a run ends; for a service that has to clean up after events of such runs."""
    return {kind: partial(_watched, handler=handler, store=store, clock=clock) for kind, handler in handlers.items()}


def _skipping(event: Event, *, handler: Handler, store: ArtifactStore) -> list[Emit]:
    run_id = _run_of(event)
    if run_id and has_ended(store, run_id):
        facts = {"run_id": run_id, "event": event.message.DESCRIPTOR.name}
        log.info("the run is over; nothing is begun", extra=facts)
        return []
    return list(handler(event))


def _watched(event: Event, *, handler: Handler, store: ArtifactStore, clock: Callable[[], float]) -> list[Emit]:
    run_id = _run_of(event)
    if not run_id:
        return list(handler(event))
    facts = {"run_id": run_id, "event": event.message.DESCRIPTOR.name}
    watch = _Watch(store, run_id, clock)
    try:
        return list(handler(replace(event, is_stopping=lambda: event.is_stopping() or watch.is_over())))
    except Interrupted:
        if not has_ended(store, run_id):
            raise
        log.info("the run is over; what was begun is left", extra=facts)
        return []


def _run_of(event: Event) -> str:
    position = getattr(event.message, "position", None)
    return str(position.run_id) if position is not None else ""


class _Watch:
    """Looks now and then whether the run is over."""

    def __init__(self, store: ArtifactStore, run_id: str, clock: Callable[[], float]) -> None:
        self._store, self._run_id, self._clock = store, run_id, clock
        self._next_look, self._is_over = clock() + LOOK_S, False

    def is_over(self) -> bool:
        if not self._is_over and self._clock() >= self._next_look:
            self._is_over = has_ended(self._store, self._run_id)
            self._next_look = self._clock() + LOOK_S
        return self._is_over
