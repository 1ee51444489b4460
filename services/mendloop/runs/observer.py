"""The observer: one thread that follows the log for LoopMetrics and asks the bus how far each service is behind.

It has a bus connection of its own. Knows when to look; what is shown, LoopMetrics knows.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter

from mendloop.artifacts.store import ArtifactStore
from mendloop.bus.base import Backlog, Bus
from mendloop.core.contracts import consumed_by
from mendloop.core.errors import MendloopError
from mendloop.core.metrics import WORKERS
from mendloop.core.telemetry import Telemetry
from mendloop.runs.log import recipe_facts
from mendloop.runs.loop_metrics import LoopMetrics, Point
from mendloop.runs.parts import RecipeFacts, Request
from mendloop.runs.stream import LogReader

log = logging.getLogger(__name__)
LOOK_S = 1.0
BACKLOG_S = 5.0


class Observer:
    """Start it once; it ends with stop. A bus that is away is asked again and shows as bus_up 0."""

    def __init__(self, bus: Bus, *, store: ArtifactStore, telemetry: Telemetry) -> None:
        self._bus, self._store, self._telemetry = bus, store, telemetry
        self._metrics = LoopMetrics(telemetry=telemetry, recipe_of=self._recipe_of)
        self._reader = LogReader(bus)
        self._left_out: Counter[str] = Counter()
        self._is_live = False
        self._backlog_at = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def step(self) -> bool:
        """Take what is new and bring the gauges up to date; whether the log may hold more. Raises Retryable."""
        events, is_more = self._reader.next()
        for event in events:
            self._metrics.saw(event.envelope, event.message, is_live=self._is_live)
        self._count_left_out()
        if is_more:
            return True
        self._is_live = True
        self._metrics.show()
        if time.monotonic() >= self._backlog_at:
            self._look_behind()
            self._backlog_at = time.monotonic() + BACKLOG_S
        return False

    def _run(self) -> None:
        while not self._stop.is_set():
            is_more = False
            try:
                is_more = self.step()
                self._telemetry.bus_answered()
            except (MendloopError, OSError) as error:
                self._telemetry.bus_failed()
                log.warning("metrics of the loop stand still", extra={"reason": str(error)})
            except Exception:  # a metric must not end the gateway; the next look tries again
                log.exception("metrics of the loop stand still")
            if not is_more:
                self._stop.wait(LOOK_S)

    def _look_behind(self) -> None:
        found = {service: self._bus.backlog(service, consumed_by(service)) for service in WORKERS}
        counts: dict[Point, float] = {(service,): float(row.event_count) for service, row in found.items()}
        self._telemetry.set_all("mendloop_queue_lag", counts)
        ages: dict[Point, float] = {(service,): _age_s(backlog) for service, backlog in found.items()}
        self._telemetry.set_all("mendloop_oldest_event_seconds", ages)

    def _count_left_out(self) -> None:
        for reason, count in self._reader.dropped.items():
            new = count - self._left_out[reason]
            if new:
                self._telemetry.add("mendloop_log_left_out", new, reason=reason)
        self._left_out = Counter(self._reader.dropped)

    def _recipe_of(self, request: Request) -> RecipeFacts | None:
        if request.run_spec is None:
            return None
        try:
            return recipe_facts(self._store, request.run_spec)
        except (MendloopError, OSError, KeyError, ValueError) as error:
            log.warning("run without its recipe", extra={"reason": str(error)})
            self._telemetry.add("mendloop_log_left_out", reason="recipe unreadable")
            return None


def _age_s(backlog: Backlog) -> float:
    made_at = backlog.oldest.envelope.made_at if backlog.oldest else None
    return 0.0 if made_at is None else max(0.0, time.time() - made_at)
