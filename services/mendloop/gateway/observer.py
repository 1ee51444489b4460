"""The observer: one thread that keeps the loop's metrics, and asks the bus how far each service is behind.

It reads no log: the feed hands it what is new, and runs stand in the database. Knows when to look; what is shown,
LoopMetrics knows.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from mendloop.bus.base import Backlog, Bus
from mendloop.core.contracts import consumed_by
from mendloop.core.errors import MendloopError
from mendloop.core.metrics import WORKERS
from mendloop.core.telemetry import Telemetry
from mendloop.gateway.feed import Feed
from mendloop.gateway.ports import Figures
from mendloop.runs.fold import run_of
from mendloop.runs.loop_metrics import LoopMetrics, Point
from mendloop.runs.stream import StreamEvent

log = logging.getLogger(__name__)
LOOK_S = 1.0
"""Shortest time between two looks; without news the next one comes after BACKLOG_S."""
BACKLOG_S = 5.0
MOST_WAITING = 10_000


class Observer:
    """Start it once; it ends with stop. Where the database is away counters and gauges stand still and what is new
    waits, at most MOST_WAITING events."""

    def __init__(
        self,
        bus: Bus,
        feed: Feed,
        figures: Figures,
        *,
        telemetry: Telemetry,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus, self._feed, self._figures, self._telemetry = bus, feed, figures, telemetry
        self._metrics, self._clock = LoopMetrics(telemetry=telemetry), clock
        self._waiting: deque[StreamEvent] = deque()
        self._lock, self._news, self._stop = threading.Lock(), threading.Event(), threading.Event()
        self._backlog_at = 0.0
        self._leave = feed.listen(self._hear)
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for the thread."""
        self._leave()
        self._stop.set()
        self._news.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def step(self) -> None:
        """Count what is new and bring the gauges up to date. Raises Retryable where the database or the bus is away."""
        if self._feed.is_current and not self._feed.runs.trouble:
            self._count()
            views = self._figures.views(ended_after=self._metrics.shown_since())
            self._metrics.show(views, self._figures.judgement())
        if self._clock() >= self._backlog_at:
            self._look_behind()
            self._backlog_at = self._clock() + BACKLOG_S

    def _hear(self, events: Sequence[StreamEvent]) -> None:
        with self._lock:
            self._waiting.extend(events)
            left_out = max(0, len(self._waiting) - MOST_WAITING)
            for _ in range(left_out):
                self._waiting.popleft()
        if left_out:
            self._telemetry.add("mendloop_events_left_out", left_out, reason="not counted")
        self._news.set()

    def _count(self) -> None:
        """What is new is written down by now, by us or by another replica: the database is not in trouble."""
        while True:
            with self._lock:
                event = self._waiting[0] if self._waiting else None
            if event is None:
                return
            run_id = run_of(event.message)
            view = self._feed.runs.view(run_id) if run_id else None
            with self._lock:
                if self._waiting and self._waiting[0] is event:
                    self._waiting.popleft()
            self._metrics.count(view, event.envelope, event.message)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._news.clear()
            try:
                self.step()
            except (MendloopError, OSError) as error:
                log.warning("metrics of the loop stand still", extra={"reason": str(error)})
            except Exception:  # a metric must not end the gateway; the next look tries again
                log.exception("metrics of the loop stand still")
            if not self._stop.wait(LOOK_S):
                self._news.wait(BACKLOG_S - LOOK_S)

    def _look_behind(self) -> None:
        found = {service: self._bus.backlog(service, consumed_by(service)) for service in WORKERS}
        counts: dict[Point, float] = {(service,): float(row.event_count) for service, row in found.items()}
        self._telemetry.set_all("mendloop_queue_lag", counts)
        ages: dict[Point, float] = {(service,): _age_s(backlog) for service, backlog in found.items()}
        self._telemetry.set_all("mendloop_oldest_event_seconds", ages)


def _age_s(backlog: Backlog) -> float:
    made_at = backlog.oldest.envelope.made_at if backlog.oldest else None
    return 0.0 if made_at is None else max(0.0, time.time() - made_at)
