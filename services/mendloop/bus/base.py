"""The bus interface. Knows envelopes; knows neither SQLite nor Kafka nor what an event means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mendloop.core.events import Envelope

Cursor = dict[str, dict[int, int]]
"""Next offset to read, by topic and partition."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event as a consumer got it, with its place in the log."""

    envelope: Envelope
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a group has not completed: how many events, and the oldest one."""

    event_count: int
    oldest: Delivery | None = None


class Consumer(Protocol):
    """A member of a consumer group. One delivery at a time is in work; all methods are called from one thread."""

    def poll(self, *, timeout_s: float) -> Delivery | None:
        """The next event, or None after the timeout. The event stays this member's until it is completed, deferred
        or the member is closed or dies."""

    def complete(self, delivery: Delivery, *, outputs: Sequence[Envelope] = ()) -> None:
        """Publish the outputs and move past the delivery in one transaction.

        Raises Retryable where the partition went to another member meanwhile: then nothing was published.
        """

    def defer(self, delivery: Delivery, *, until: float) -> None:
        """Give the delivery back; it and what follows it on its partition come again after the Unix time."""

    def heartbeat(self) -> None:
        """Keep what this member holds while a handler works. Call it at least every second.

        Raises Retryable where the bus is away; that is no reason to stop the handler.
        """

    def close(self) -> None:
        """Leave the group; what is not completed goes to the others at once."""


class Log(Protocol):
    """What a reader without a group needs of a bus."""

    def read(self, topics: Sequence[str], *, cursor: Cursor | None = None, limit: int = 1000) -> list[Delivery]:
        """Committed events from the cursor on (default: the oldest), without a group, oldest first, at most limit."""


class Bus(Protocol):
    """A log of events by topic and partition."""

    def ensure_topics(self, topics: Iterable[str]) -> None:
        """Create the topics that do not exist."""

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Append all events or none."""

    def consumer(self, group: str, topics: Sequence[str], *, member: str) -> Consumer:
        """Join a group; a group that is new starts at the oldest event."""

    def read(self, topics: Sequence[str], *, cursor: Cursor | None = None, limit: int = 1000) -> list[Delivery]:
        """Committed events from the cursor on (default: the oldest), without a group, oldest first, at most limit."""

    def lag(self, group: str, topics: Sequence[str]) -> int:
        """Committed events that the group has not completed."""

    def backlog(self, group: str, topics: Sequence[str]) -> Backlog:
        """The same with the oldest of these events; cheap enough to ask every few seconds."""

    def close(self) -> None:
        """Release connections."""


def advance(cursor: Cursor, deliveries: Iterable[Delivery]) -> Cursor:
    """The cursor after the deliveries. What they do not touch is shared with the cursor before, so change neither."""
    moved, copied = dict(cursor), set[str]()
    for delivery in deliveries:
        if delivery.topic not in copied:
            moved[delivery.topic] = dict(moved.get(delivery.topic, {}))
            copied.add(delivery.topic)
        offsets = moved[delivery.topic]
        offsets[delivery.partition] = max(offsets.get(delivery.partition, 0), delivery.offset + 1)
    return moved


def has_passed(cursor: Cursor, other: Cursor) -> bool:
    """Whether the cursor stands, in every partition, where the other one does or behind that."""
    for topic, offsets in other.items():
        ours = cursor.get(topic, {})
        if any(ours.get(partition, 0) < offset for partition, offset in offsets.items()):
            return False
    return True


def joined(cursor: Cursor, other: Cursor) -> Cursor:
    """The cursor that has passed what either of the two has passed."""
    both = {topic: dict(offsets) for topic, offsets in cursor.items()}
    for topic, offsets in other.items():
        ours = both.setdefault(topic, {})
        for partition, offset in offsets.items():
            ours[partition] = max(ours.get(partition, 0), offset)
    return both
