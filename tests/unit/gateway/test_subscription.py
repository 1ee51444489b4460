"""A reader's place in the event stream: each event once, whichever feed it attaches to, from memory or from the log."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_events import position, sent

from mendloop.bus.base import Cursor, Delivery, has_passed, joined
from mendloop.core.telemetry import Telemetry
from mendloop.gateway import feed as feeds
from mendloop.gateway import subscription
from mendloop.gateway.feed import Entry, Feed
from mendloop.gateway.shared_pages import SharedPages
from mendloop.gateway.subscription import BEGINNING, Subscription
from mendloop.runs.model import RunView
from mendloop.runs.stream import EVERYTHING, TOPICS, LogReader, StreamEvent, encode_cursor
from mendloop.v1 import evaluation_pb2, loop_pb2

TELEMETRY = Telemetry("gateway")
MESSAGES = (evaluation_pb2.EvalFailed, loop_pb2.LoopFinished)


class ManyOrders:
    """A log that merges its partitions anew at each read, as readers of Kafka do, and has gaps between offsets."""

    def __init__(self, *, seed: int = 0) -> None:
        self._random, self._ids = random.Random(seed), count()
        self._partitions: dict[tuple[str, int], list[Delivery]] = {}
        self.read_count = 0

    def publish(self, event_count: int) -> None:
        """New events, each somewhere."""
        for _ in range(event_count):
            kind = self._random.choice(MESSAGES)
            envelope = sent(kind(position=position("r1")), event_id=f"e{next(self._ids)}")
            partition = self._random.randrange(2)
            log = self._partitions.setdefault((envelope.topic, partition), [])
            offset = log[-1].offset + self._random.choice((1, 2)) if log else self._random.randrange(2)
            log.append(Delivery(envelope, envelope.topic, partition, offset))

    def read(self, topics: Sequence[str], *, cursor: Cursor | None = None, limit: int = 1000) -> list[Delivery]:
        """Events from the cursor on, partitions mixed by chance."""
        self.read_count += 1
        starts = cursor or {}
        waiting = [
            [one for one in log if one.offset >= starts.get(topic, {}).get(partition, 0)]
            for (topic, partition), log in self._partitions.items()
        ]
        found: list[Delivery] = []
        while any(waiting) and len(found) < limit:
            found.append(self._random.choice([log for log in waiting if log]).pop(0))
        return found

    def forget(self) -> None:
        """What is there now is kept no longer."""
        self._partitions = {place: [] for place in self._partitions}

    @property
    def logs(self) -> list[list[str]]:
        """Event ids of each partition."""
        return [[one.envelope.event_id for one in log] for log in self._partitions.values()]


class FollowedRuns:
    """The log from a cursor on; folds nothing."""

    trouble = ""

    def __init__(self, bus: ManyOrders, *, start: Cursor) -> None:
        self._reader = LogReader(bus, cursor=start)

    @property
    def cursor(self) -> Cursor:
        """Behind everything that was read."""
        return self._reader.cursor

    def step(self) -> tuple[list[StreamEvent], bool]:
        """A small page."""
        return self._reader.next(limit=3)

    def view(self, run_id: str) -> RunView | None:
        """No run."""
        return None

    def dropped_counts(self) -> dict[str, int]:
        """Nothing is left out."""
        return {}


def _feed(bus: ManyOrders, *, start: Cursor | None = None, is_current: bool = True) -> Feed:
    feed = Feed(FollowedRuns(bus, start=start or {}), telemetry=TELEMETRY)
    while is_current and feed.step():
        pass
    return feed


def _reader(feed: Feed, bus: ManyOrders, cursor: str = "") -> Subscription:
    return Subscription(feed, bus, wanted=EVERYTHING, cursor=cursor)


def _drain(reader: Subscription) -> list[Entry]:
    found = reader.pull()
    while reader.is_behind:
        found += reader.pull()
    return found


def _ids(entries: Sequence[Entry]) -> list[str]:
    return [entry.envelope.event_id for entry in entries]


def _is_each_once(bus: ManyOrders, ids: Sequence[str]) -> bool:
    return len(ids) == sum(map(len, bus.logs)) and all([i for i in ids if i in log] == log for log in bus.logs)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32))
def test_reader_that_moves_between_feeds_meets_each_event_once(seed: int) -> None:
    chance = random.Random(seed)
    bus, starts, ids = ManyOrders(seed=seed), [Cursor()], list[str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feeds, "KEEP_EVENTS", chance.randint(1, 40))
        patch.setattr(subscription, "CATCH_UP_COUNT", chance.randint(1, 20))
        patch.setattr(subscription, "PULL_COUNT", chance.randint(1, 20))
        all_feeds = [_feed(bus), _feed(bus)]
        reader = _reader(all_feeds[0], bus, BEGINNING)
        for _ in range(60):
            feed, act = chance.choice(all_feeds), chance.choice(("publish", "step", "pull", "move", "restart"))
            if act == "publish":
                bus.publish(chance.randint(1, 8))
            elif act == "step":
                feed.step()
            elif act == "pull":
                before, found = reader.cursor, reader.pull()
                cut = chance.randint(0, len(found))  # the connection may break after any event
                ids += _ids(found[:cut])
                if cut < len(found):
                    reader = _reader(feed, bus, found[cut - 1].cursor if cut else before)
            elif act == "move":
                reader = _reader(feed, bus, reader.cursor)
            elif chance.random() < 0.3:
                starts.append(feed.runs.cursor)
                all_feeds[all_feeds.index(feed)] = _feed(bus, start=chance.choice(starts), is_current=False)
        for feed in all_feeds:
            while feed.step():
                pass
        for feed in all_feeds:
            ids += _ids(_drain(reader))
            reader = _reader(feed, bus, reader.cursor)
        ids += _ids(_drain(reader))
    assert _is_each_once(bus, ids)


def test_readers_of_a_feed_that_began_before_their_place_read_no_log() -> None:
    bus = ManyOrders()
    bus.publish(20)
    before = _feed(bus)
    readers = [_reader(before, bus, BEGINNING) for _ in range(5)]
    cursors = [_drain(reader)[4 + n].cursor for n, reader in enumerate(readers)]
    bus.publish(20)
    restarted = _feed(bus)
    read_count = bus.read_count
    rests = [_drain(_reader(restarted, bus, cursor)) for cursor in cursors]
    assert [len(rest) for rest in rests] == [35, 34, 33, 32, 31]
    assert bus.read_count == read_count


def test_readers_that_are_far_back_share_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "KEEP_EVENTS", 5)
    monkeypatch.setattr(subscription, "CATCH_UP_COUNT", 10)
    bus = ManyOrders()
    bus.publish(60)
    feed, shared = _feed(bus), SharedPages(bus)
    read_count = bus.read_count
    readers = [Subscription(feed, shared, wanted=EVERYTHING, cursor=BEGINNING) for _ in range(20)]
    found: list[list[str]] = [[] for _ in readers]
    while any(reader.is_behind for reader in readers):
        for reader, ids in zip(readers, found, strict=True):
            ids += _ids(reader.pull())
    assert all(_is_each_once(bus, ids) for ids in found)
    assert bus.read_count - read_count <= 7


def test_page_that_may_grow_is_not_kept() -> None:
    bus = ManyOrders()
    bus.publish(3)
    shared = SharedPages(bus)
    assert len(shared.read(TOPICS, limit=10)) == 3
    bus.publish(3)
    assert len(shared.read(TOPICS, limit=10)) == 6


def test_reader_of_a_log_that_forgot_its_beginning_comes_to_the_feed() -> None:
    bus = ManyOrders()
    bus.publish(20)
    start = _feed(bus).runs.cursor
    bus.forget()
    feed = _feed(bus, start=start)
    reader = _reader(feed, bus, BEGINNING)
    assert _drain(reader) == []
    assert not reader.reads_log


def test_reader_that_is_before_its_feed_gets_what_the_feed_comes_to() -> None:
    bus = ManyOrders()
    bus.publish(9)
    slow, quick = _feed(bus), _feed(bus)
    bus.publish(9)
    while quick.step():
        pass
    met = _drain(_reader(quick, bus, BEGINNING))
    reader = _reader(slow, bus, met[-1].cursor)
    assert _drain(reader) == []
    bus.publish(1)
    while slow.step():
        pass
    assert len(_drain(reader)) == 1


def test_now_begins_when_the_log_was_read_once() -> None:
    bus = ManyOrders()
    bus.publish(7)
    feed = _feed(bus, is_current=False)
    feed.step()
    reader = _reader(feed, bus)
    assert (reader.pull(), reader.cursor) == ([], "")
    while feed.step():
        pass
    assert reader.pull() == []
    assert reader.cursor == encode_cursor(feed.runs.cursor)
    bus.publish(2)
    feed.step()
    assert len(_drain(reader)) == 2


def test_joined_cursor_has_passed_what_either_has() -> None:
    one, two = {"a": {0: 3, 1: 1}}, {"a": {1: 4}, "b": {0: 2}}
    both = joined(one, two)
    assert both == {"a": {0: 3, 1: 4}, "b": {0: 2}}
    assert has_passed(both, one)
    assert has_passed(both, two)
    assert not has_passed(one, two)
    assert has_passed({}, {"a": {0: 0}})
