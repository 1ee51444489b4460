"""Events as they are committed: a reader with a cursor, and the cursor as an opaque string. Knows no service.

An event id that stands twice among the last RECENT_COUNT events is passed on once; a reader that resumes between two
copies sees the second, so a subscriber that must not act twice keeps the ids that it acted on.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import time
import zlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from google.protobuf.message import Message

from mendloop.bus.base import Bus, Cursor, Delivery, Log, advance
from mendloop.core.contracts import CONTRACTS, decode
from mendloop.core.errors import InvalidEvent
from mendloop.core.events import Envelope
from mendloop.runs.filters import EventFilter

log = logging.getLogger(__name__)
TOPICS = tuple(contract.topic for contract in CONTRACTS)
RECENT_COUNT = 10_000
PAGE = 1000
POLL_S = 0.2
MAX_CURSOR_BYTES = 64 * 1024
EVERYTHING = EventFilter()


class StreamEvent(NamedTuple):
    """A committed event, its decoded message, the cursor after it (encode_cursor makes it a string) and its place."""

    envelope: Envelope
    message: Message
    cursor: Cursor
    partition: int
    offset: int


class LogReader:
    """Reads the bus forward. Events that cannot be read and repeated ones are left out and counted in `dropped`."""

    def __init__(self, bus: Log, *, cursor: Cursor | None = None, topics: Sequence[str] = TOPICS) -> None:
        self._bus, self._topics = bus, tuple(topics)
        self.cursor: Cursor = cursor or {}
        self.dropped: Counter[str] = Counter()
        self._recent: OrderedDict[str, None] = OrderedDict()

    def next(self, *, limit: int = PAGE) -> tuple[list[StreamEvent], bool]:
        """What comes next, and whether the log may hold more."""
        deliveries = self._bus.read(self._topics, cursor=self.cursor, limit=limit)
        return [event for delivery in deliveries if (event := self._event(delivery))], len(deliveries) == limit

    def skip_to_end(self) -> None:
        """Move behind everything that is committed now."""
        while deliveries := self._bus.read(self._topics, cursor=self.cursor, limit=PAGE):
            self.cursor = advance(self.cursor, deliveries)

    def _event(self, delivery: Delivery) -> StreamEvent | None:
        self.cursor = advance(self.cursor, [delivery])
        envelope = delivery.envelope
        if envelope.event_id in self._recent:
            self.dropped["repeated"] += 1
            return None
        try:
            envelope.require_headers()
            message = decode(envelope.event_type, envelope.value)
        except InvalidEvent as error:
            self.dropped["unreadable"] += 1
            log.warning("event left out", extra={"event_id": envelope.event_id, "reason": str(error)})
            return None
        self._recent[envelope.event_id] = None
        if len(self._recent) > RECENT_COUNT:
            self._recent.popitem(last=False)
        return StreamEvent(envelope, message, self.cursor, delivery.partition, delivery.offset)


def follow(
    bus: Bus,
    *,
    cursor: Cursor | None = None,
    wanted: EventFilter = EVERYTHING,
    is_stopping: Callable[[], bool] = lambda: False,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[StreamEvent]:
    """Events from the cursor on (default: the oldest; `end_of(bus)` is now) until is_stopping, asked every POLL_S."""
    bus.ensure_topics(TOPICS)
    reader = LogReader(bus, cursor=cursor)
    while not is_stopping():
        events, is_more = reader.next()
        yield from (event for event in events if wanted.matches(event.message))
        if not is_more and not is_stopping():
            sleep(POLL_S)


def end_of(bus: Bus) -> Cursor:
    """The cursor behind everything that is committed now. Reads the log once."""
    bus.ensure_topics(TOPICS)
    reader = LogReader(bus)
    reader.skip_to_end()
    return reader.cursor


def encode_cursor(cursor: Cursor) -> str:
    """The cursor as a string for headers and URLs; equal cursors give equal strings."""
    raw = json.dumps({topic: dict(sorted(parts.items())) for topic, parts in sorted(cursor.items()) if parts})
    return base64.urlsafe_b64encode(zlib.compress(raw.encode(), 1)).decode().rstrip("=")


def decode_cursor(text: str) -> Cursor:
    """The cursor of a string. Raises ValueError where encode_cursor did not make it."""
    try:
        packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        inflate = zlib.decompressobj()
        document = json.loads(inflate.decompress(packed, MAX_CURSOR_BYTES))
        cursor = {str(t): {int(p): int(n) for p, n in parts.items()} for t, parts in document.items()}
    except (ValueError, binascii.Error, zlib.error, AttributeError, TypeError) as error:
        raise ValueError(f"{text[:40]!r} is no cursor; take one that an event carried") from error
    if any(n < 0 or p < 0 for parts in cursor.values() for p, n in parts.items()):
        raise ValueError(f"{text[:40]!r} is no cursor; it holds a negative offset")
    return cursor
