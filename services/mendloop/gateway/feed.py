"""The feed: one thread that follows the log, folds runs and keeps the newest events for the streams.

Streams pull; nobody is pushed to, so a slow one costs nothing but its own delay. Knows neither web nor gRPC.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from mendloop.core.errors import MendloopError
from mendloop.core.events import Envelope
from mendloop.core.telemetry import Telemetry
from mendloop.gateway.ports import Runs
from mendloop.runs.stream import POLL_S, StreamEvent, encode_cursor

log = logging.getLogger(__name__)
KEEP_EVENTS = 2_000
KEEP_BYTES = 4 * 1024 * 1024
BACKOFF_S = 1.0


@dataclass(frozen=True)
class Entry:
    """An event as streams give it out: its place as a cursor string, and its JSON, made once for all streams."""

    cursor: str
    envelope: Envelope
    message: Message

    @classmethod
    def of(cls, event: StreamEvent) -> Entry:
        """The entry of an event."""
        return cls(encode_cursor(event.cursor), event.envelope, event.message)

    @cached_property
    def data(self) -> str:
        """{"headers": ..., "message": ...}; fields that are zero are there too, 64-bit integers are strings."""
        content = MessageToDict(
            self.message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        return json.dumps({"headers": self.envelope.headers, "message": content}, ensure_ascii=False)


class Feed:
    """Follows the log from where the runs were last kept. At most KEEP_EVENTS events or KEEP_BYTES of values are held;
    who needs older ones reads the log itself."""

    def __init__(self, runs: Runs, *, telemetry: Telemetry) -> None:
        self.runs, self._telemetry = runs, telemetry
        self._stop, self._current = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque()
        self._bytes, self._first, self._end, self._unread = 0, 0, "", ""
        self._serials: dict[str, int] = {}
        self._watchers: set[Callable[[], object]] = set()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def ask_stop(self) -> None:
        """Begin to end: the thread wakes the streams, which see is_stopping. Takes no lock, so a signal may call it."""
        self._stop.set()

    def stop(self) -> None:
        """End, and wait for the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    @property
    def is_stopping(self) -> bool:
        """Whether the gateway goes down."""
        return self._stop.is_set()

    @property
    def is_current(self) -> bool:
        """Whether the log was read to its end once."""
        return self._current.is_set()

    @property
    def trouble(self) -> str:
        """Why the runs do not follow the log now; empty where they do."""
        return self._unread or self.runs.trouble

    def wait_current(self, *, timeout_s: float) -> bool:
        """Wait until the log was read to its end once."""
        return self._current.wait(timeout_s)

    def watch(self, wake: Callable[[], object]) -> Callable[[], None]:
        """Call wake from the feed's thread after new events and at the end; returns the function that ends it."""
        with self._lock:
            self._watchers.add(wake)

        def leave() -> None:
            with self._lock:
                self._watchers.discard(wake)

        return leave

    def end(self) -> tuple[int, str]:
        """The serial of the next event, and the cursor there."""
        with self._lock:
            return self._first + len(self._entries), self._end

    def serial_after(self, cursor: str) -> int | None:
        """The serial of the event after a cursor; None where the kept events do not reach there."""
        with self._lock:
            return self._serials.get(cursor)

    def since(self, serial: int, *, limit: int) -> list[Entry] | None:
        """Kept events from a serial on; None where they are gone."""
        with self._lock:
            start = serial - self._first
            if start < 0:
                return None
            return [self._entries[i] for i in range(start, min(start + limit, len(self._entries)))]

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                events, is_more = self.runs.step()
            except (MendloopError, OSError) as error:
                log.warning("the log cannot be followed; trying again", extra={"reason": str(error)})
                self._unread = str(error)
                self._stop.wait(BACKOFF_S)
                continue
            self._unread = ""
            self._telemetry.alive()
            if self.is_current:
                self._keep(events)
            elif not is_more:
                self._become_current()
            if not is_more:
                self._stop.wait(POLL_S)
        self._wake()

    def _become_current(self) -> None:
        with self._lock:
            self._end = encode_cursor(self.runs.cursor)
            self._serials[self._end] = 0
        self._current.set()
        log.info("the log is read", extra={"dropped": self.runs.dropped_counts()})
        self._wake()

    def _keep(self, events: list[StreamEvent]) -> None:
        if not events:
            return
        started = time.monotonic()
        with self._lock:
            for event in events:
                entry = Entry.of(event)
                self._entries.append(entry)
                self._bytes += len(entry.envelope.value)
                self._end = entry.cursor
                self._serials[entry.cursor] = self._first + len(self._entries)
            while len(self._entries) > KEEP_EVENTS or (self._bytes > KEEP_BYTES and self._entries):
                self._let_go()
        self._wake()
        seconds = (time.monotonic() - started) / len(events)
        for event in events:
            self._telemetry.handled(event.envelope.event_type, result="ok", seconds=seconds)

    def _let_go(self) -> None:
        gone = self._entries.popleft()
        self._bytes -= len(gone.envelope.value)
        self._first += 1
        oldest = next(iter(self._serials))
        if self._serials[oldest] < self._first:
            del self._serials[oldest]

    def _wake(self) -> None:
        with self._lock:
            watchers = list(self._watchers)
        for wake in watchers:
            wake()
