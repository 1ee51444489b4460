"""The feed: one thread that follows the log, folds runs and keeps the newest events for the streams.

It is the only reader of the log that a gateway has, but for who lies further back than its memory. Streams pull; nobody
waits for one, so a slow one costs nothing but its own delay. Knows neither web nor gRPC.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from mendloop.bus.base import Cursor, has_passed, joined
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
    """An event as streams give it out: its place, the cursor after it, and its JSON, made once for all streams."""

    envelope: Envelope
    message: Message
    partition: int
    offset: int
    after: Cursor

    @classmethod
    def of(cls, event: StreamEvent) -> Entry:
        """The entry of an event."""
        return cls(event.envelope, event.message, event.partition, event.offset, event.cursor)

    def is_passed(self, cursor: Cursor) -> bool:
        """Whether a cursor stands behind the event."""
        return self.offset < cursor.get(self.envelope.topic, {}).get(self.partition, 0)

    @cached_property
    def cursor(self) -> str:
        """The cursor after it as a string."""
        return encode_cursor(self.after)

    @cached_property
    def data(self) -> str:
        """{"headers": ..., "message": ...}; fields that are zero are there too, 64-bit integers are strings."""
        content = MessageToDict(
            self.message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        return json.dumps({"headers": self.envelope.headers, "message": content}, ensure_ascii=False)


Hear = Callable[[Sequence[StreamEvent]], object]


class Feed:
    """Follows the log from where the runs begin to read it. At most KEEP_EVENTS events or KEEP_BYTES of values are
    held; who needs older ones reads the log itself.

    What is held is everything behind one cursor, its floor, up to another, its end. A reader whose own cursor has
    passed the floor finds here all that it has not met, wherever that cursor was made: the order may be another there.
    """

    def __init__(self, runs: Runs, *, telemetry: Telemetry) -> None:
        self.runs, self._telemetry = runs, telemetry
        self._stop, self._current = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque()
        self._bytes, self._first, self._unread = 0, 0, ""
        self._end = runs.cursor
        self._floor: Cursor = joined(self._end, {})
        self._watchers: set[Callable[[], object]] = set()
        self._listeners: set[Hear] = set()
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

    def listen(self, hear: Hear) -> Callable[[], None]:
        """Call hear from the feed's thread with what is new since the log was read to its end, and with nothing then;
        returns the function that ends it."""
        with self._lock:
            self._listeners.add(hear)

        def leave() -> None:
            with self._lock:
                self._listeners.discard(hear)

        return leave

    def end(self) -> tuple[int, str]:
        """The serial of the next event, and the cursor there; no cursor before the log was read to its end once."""
        with self._lock:
            return self._first + len(self._entries), encode_cursor(self._end) if self.is_current else ""

    def floor(self) -> Cursor:
        """The cursor behind which every event that was read is held."""
        with self._lock:
            return joined(self._floor, {})

    def serial_after(self, cursor: Cursor) -> int | None:
        """The serial of the first event that a cursor has not passed; None where such a one may be gone.

        Events behind it may have been passed too, where the cursor was made by somebody who read in another order.
        """
        with self._lock:
            if not has_passed(cursor, self._floor):
                return None
            unmet = (n for n, entry in enumerate(self._entries) if not entry.is_passed(cursor))
            return self._first + next(unmet, len(self._entries))

    def since(self, serial: int, *, limit: int) -> list[Entry] | None:
        """Kept events from a serial on; None where they are gone."""
        with self._lock:
            start = serial - self._first
            if start < 0:
                return None
            return [self._entries[i] for i in range(start, min(start + limit, len(self._entries)))]

    def step(self) -> bool:
        """Keep one page of the log; whether the log may hold more. The feed's thread does it again and again."""
        events, is_more = self.runs.step()
        self._keep(events)
        if not is_more and not self.is_current:
            self._become_current()
        return is_more

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                is_more = self.step()
            except (MendloopError, OSError) as error:
                log.warning("the log cannot be followed; trying again", extra={"reason": str(error)})
                self._unread = str(error)
                if not self.runs.trouble:
                    self._telemetry.bus_failed()
                self._stop.wait(BACKOFF_S)
                continue
            self._unread = ""
            self._telemetry.bus_answered()
            self._telemetry.alive()
            if not is_more:
                self._stop.wait(POLL_S)
        self._wake()

    def _become_current(self) -> None:
        self._current.set()
        log.info("the log is read", extra={"dropped": self.runs.dropped_counts()})
        self._wake()
        self._tell([])

    def _keep(self, events: list[StreamEvent]) -> None:
        started = time.monotonic()
        with self._lock:
            self._end = self.runs.cursor
            for event in events:
                self._entries.append(Entry.of(event))
                self._bytes += len(event.envelope.value)
            while len(self._entries) > KEEP_EVENTS or (self._bytes > KEEP_BYTES and self._entries):
                self._let_go()
        if not events or not self.is_current:
            return
        self._wake()
        self._tell(events)
        seconds = (time.monotonic() - started) / len(events)
        for event in events:
            self._telemetry.handled(event.envelope.event_type, result="ok", seconds=seconds)

    def _let_go(self) -> None:
        gone = self._entries.popleft()
        self._bytes -= len(gone.envelope.value)
        self._first += 1
        self._floor.setdefault(gone.envelope.topic, {})[gone.partition] = gone.offset + 1

    def _tell(self, events: Sequence[StreamEvent]) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for hear in listeners:
            hear(events)

    def _wake(self) -> None:
        with self._lock:
            watchers = list(self._watchers)
        for wake in watchers:
            wake()
