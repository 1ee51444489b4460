"""What every bus must do. Written once, run on the SQLite bus and on a real Kafka broker."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from behaviour_buses import BusFactory
from waiting import wait_until

from mendloop.bus.base import Bus, Consumer, Delivery, advance
from mendloop.core.errors import Retryable
from mendloop.core.events import Envelope

IN, OUT = "mendloop.in.v1", "mendloop.out.v1"
TAKEOVER_S = 10.0


@pytest.fixture
def bus(bus_factory: BusFactory) -> Iterator[Bus]:
    """A bus with both topics."""
    bus = bus_factory()
    bus.ensure_topics([IN, OUT])
    yield bus
    bus.close()


@pytest.fixture
def join(bus_factory: BusFactory) -> Iterator[Callable[..., Consumer]]:
    """Joins a group as a member with a bus object of its own; closes all in the end."""
    with contextlib.ExitStack() as stack:

        def joined(group: str = "g", *, member: str = "m", topics: Sequence[str] = (IN,)) -> Consumer:
            bus = bus_factory()
            stack.callback(bus.close)
            consumer = bus.consumer(group, topics, member=member)
            stack.callback(consumer.close)
            return consumer

        yield joined


def event(value: str, *, key: str = "k", topic: str = IN) -> Envelope:
    return Envelope(topic, key, value.encode(), {"ce_id": value})


@contextlib.contextmanager
def polled(consumer: Consumer) -> Iterator[list[Delivery]]:
    """What the member gets while the block runs. It polls in a thread of its own, as another process would:
    a rebalance needs every member."""
    got: list[Delivery] = []
    done = threading.Event()

    def poll() -> None:
        while not done.is_set():
            delivery = consumer.poll(timeout_s=0.2)
            if delivery is not None:
                got.append(delivery)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield got
    finally:
        done.set()
        thread.join()


def taken(consumer: Consumer, *, deadline_s: float = TAKEOVER_S) -> Delivery:
    return wait_until(lambda: consumer.poll(timeout_s=0.2), deadline_s=deadline_s)


def drained(consumer: Consumer, *, count: int) -> list[str]:
    values = []
    for _ in range(count):
        delivery = taken(consumer)
        values.append(delivery.envelope.value.decode())
        consumer.complete(delivery)
    return values


def written(bus: Bus, *, topic: str = OUT, count: int) -> list[str]:
    """Values of the topic as soon as there are as many as expected."""

    def read() -> list[Delivery] | None:
        found = bus.read([topic], limit=100_000)
        return found if len(found) >= count else None

    return [d.envelope.value.decode() for d in wait_until(read, deadline_s=TAKEOVER_S)]


def test_event_arrives_as_it_was_published(bus: Bus, join: Callable[..., Consumer]) -> None:
    sent = Envelope(IN, "ключ", b"\x00\xff", {"ce_id": "1", "ce_subject": "ü"})
    bus.publish([sent])
    assert taken(join()).envelope == sent


def test_events_of_one_key_come_in_order(bus: Bus, join: Callable[..., Consumer]) -> None:
    for start in range(0, 30, 10):
        bus.publish([event(str(i)) for i in range(start, start + 10)])
    assert drained(join(), count=30) == [str(i) for i in range(30)]


def test_keys_spread_over_partitions_and_a_key_stays_on_one(bus: Bus) -> None:
    bus.publish([event(f"{key}/{i}", key=f"key{key}") for key in range(20) for i in range(2)])
    written(bus, topic=IN, count=40)
    partitions: dict[str, set[int]] = {}
    for delivery in bus.read([IN]):
        partitions.setdefault(delivery.envelope.key, set()).add(delivery.partition)
    assert {len(p) for p in partitions.values()} == {1}
    assert len(set.union(*partitions.values())) > 1


def test_two_groups_both_get_every_event(bus: Bus, join: Callable[..., Consumer]) -> None:
    bus.publish([event(str(i)) for i in range(5)])
    assert drained(join("one"), count=5) == drained(join("two"), count=5)


def test_members_of_a_group_share_the_work_and_handle_each_event_once(
    bus: Bus, bus_factory: BusFactory, join: Callable[..., Consumer]
) -> None:
    handled: dict[str, list[str]] = {"m1": [], "m2": []}
    done = threading.Event()

    def work(member: str) -> None:
        own = bus_factory()
        with contextlib.closing(own), contextlib.closing(own.consumer("g", [IN], member=member)) as consumer:
            while not done.is_set():
                delivery = consumer.poll(timeout_s=0.1)
                if delivery is None:
                    continue
                with contextlib.suppress(Retryable):  # went to the other member in a rebalance
                    consumer.complete(delivery, outputs=[event(delivery.envelope.value.decode(), topic=OUT)])
                    handled[member].append(delivery.envelope.value.decode())

    sent = 0
    with ThreadPoolExecutor(2) as pool:
        members = [pool.submit(work, member) for member in handled]
        with contextlib.ExitStack() as stack:
            stack.callback(done.set)
            while not all(handled.values()) or sent < 100:
                bus.publish([event(str(sent + i), key=f"key{i}") for i in range(20)])
                sent += 20
                assert sent < 2_000, f"one member gets nothing: {[member.done() for member in members]}"
                wait_until(lambda goal=sent: sum(map(len, handled.values())) >= goal - 20)
            wait_until(lambda: sum(map(len, handled.values())) >= sent)
        for member in members:
            member.result()
    assert Counter(written(bus, count=sent)) == Counter(str(i) for i in range(sent))


def test_publish_appends_all_events_or_none(bus: Bus) -> None:
    unencodable = Envelope(IN, "k", b"", {"ce_id": object()})  # type: ignore[dict-item]  # a caller's mistake
    with pytest.raises((TypeError, AttributeError)):
        bus.publish([event("1"), event("2", topic=OUT), unencodable])
    bus.publish([event("after")])
    assert written(bus, topic=IN, count=1) == ["after"]
    assert bus.read([OUT]) == []


def test_outputs_of_a_completion_that_fails_are_never_seen_and_the_event_comes_again(
    bus: Bus, join: Callable[..., Consumer]
) -> None:
    bus.publish([event("in")])
    consumer = join()
    unencodable = Envelope(OUT, "k", b"", {"ce_id": object()})  # type: ignore[dict-item]  # a caller's mistake
    with pytest.raises((TypeError, AttributeError)):
        consumer.complete(taken(consumer), outputs=[event("out", topic=OUT), unencodable])
    consumer.complete(taken(consumer), outputs=[event("second try", topic=OUT)])
    assert written(bus, count=1) == ["second try"]


@pytest.mark.slow
def test_killed_members_leave_one_visible_output_for_each_input(bus: Bus, bus_factory: BusFactory) -> None:
    count, kill_count, rng = 240, 4, random.Random(5)
    bus.publish([event(str(i), key=f"key{i % 16}") for i in range(count)])
    with contextlib.ExitStack() as stack:
        names = ["m1", "m2"]
        members = {n: stack.enter_context(bus_factory.member("copy", "g", n, IN, OUT)) for n in names}
        kills = 0
        deadline = time.monotonic() + 90
        seen = 0
        while seen < count:
            assert time.monotonic() < deadline, f"{seen} of {count} outputs after {kills} kills"
            threading.Event().wait(rng.uniform(0.02, 0.3))
            seen = len(bus.read([OUT], limit=100_000))
            if kills < kill_count and seen > kills * count // 6:
                name = rng.choice(names)
                members[name].send(signal.SIGKILL)
                members[name] = stack.enter_context(bus_factory.member("copy", "g", name, IN, OUT))
                kills += 1
        wait_until(lambda: bus.lag("g", [IN]) == 0)
    assert kills == kill_count
    assert Counter(written(bus, count=count)) == Counter(str(i) for i in range(count))


def test_long_handler_keeps_its_event(bus: Bus, join: Callable[..., Consumer]) -> None:
    bus.publish([event("long")])
    busy, idle = join(member="busy"), join(member="idle")
    delivery = taken(busy)
    until = time.monotonic() + 4.0  # more than twice the lease and the session of the buses under test
    with polled(idle) as got:
        while time.monotonic() < until:
            busy.heartbeat()
            time.sleep(0.2)  # as often as the loop beats
        busy.complete(delivery, outputs=[event("out", topic=OUT)])
    assert got == []
    assert written(bus, count=1) == ["out"]


def test_work_of_a_dead_member_goes_to_another(
    bus: Bus, bus_factory: BusFactory, join: Callable[..., Consumer]
) -> None:
    bus.publish([event("in")])
    with bus_factory.member("hold", "g", "doomed", IN, OUT) as doomed:
        assert doomed.says() == "held in"
        doomed.send(signal.SIGKILL)
        assert taken(join()).envelope.value == b"in"


def test_close_gives_the_event_back_at_once(bus: Bus, join: Callable[..., Consumer]) -> None:
    bus.publish([event("in")])
    leaver = join(member="leaver")
    taken(leaver)
    stayer = join(member="stayer")
    threading.Thread(target=leaver.close).start()
    started = time.monotonic()
    assert taken(stayer).envelope.value == b"in"
    assert time.monotonic() - started < 1.4, "a lease or session of 1.5 s ran out instead"


def test_a_group_goes_on_where_it_stopped(bus: Bus, join: Callable[..., Consumer]) -> None:
    bus.publish([event(str(i)) for i in range(4)])
    first = join()
    assert drained(first, count=2) == ["0", "1"]
    first.close()
    assert drained(join(member="later"), count=2) == ["2", "3"]


def test_deferred_event_comes_again_when_it_is_due_and_before_its_followers(
    bus: Bus, join: Callable[..., Consumer]
) -> None:
    bus.publish([event("first"), event("second")])
    consumer = join()
    until = time.time() + 1.0
    consumer.defer(taken(consumer), until=until)
    again = taken(consumer)
    assert time.time() >= until
    assert again.envelope.value == b"first"
    consumer.complete(again)
    assert drained(consumer, count=1) == ["second"]


def test_deferred_event_holds_up_no_other_partition(bus: Bus, join: Callable[..., Consumer]) -> None:
    bus.publish([event(f"key{i}", key=f"key{i}") for i in range(20)])
    consumer = join()
    deferred = taken(consumer)
    consumer.defer(deferred, until=time.time() + 60)
    written(bus, topic=IN, count=20)
    others = [d for d in bus.read([IN]) if d.partition != deferred.partition]
    assert others
    assert sorted(drained(consumer, count=len(others))) == sorted(d.envelope.value.decode() for d in others)


def test_lag_counts_what_the_group_has_not_completed(bus: Bus, join: Callable[..., Consumer]) -> None:
    for i in range(5):
        bus.publish([event(str(i), key=str(i))])
    wait_until(lambda: bus.lag("g", [IN]) == 5)
    consumer = join()
    drained(consumer, count=3)
    wait_until(lambda: bus.lag("g", [IN]) == 2)
    drained(consumer, count=2)
    wait_until(lambda: bus.lag("g", [IN]) == 0)
    assert bus.lag("other", [IN]) == 5


def test_read_goes_on_from_the_cursor(bus: Bus) -> None:
    bus.publish([event(f"key{i}", key=f"key{i}") for i in range(10)])
    written(bus, topic=IN, count=10)
    first = bus.read([IN], limit=4)
    rest = bus.read([IN], cursor=advance({}, first))
    assert len(first) == 4
    assert {d.envelope.value for d in [*first, *rest]} == {f"key{i}".encode() for i in range(10)}
    cursor = advance(advance({}, first), rest)
    assert bus.read([IN], cursor=cursor) == []
    bus.publish([event("new")])
    fresh = wait_until(lambda: bus.read([IN], cursor=cursor), deadline_s=TAKEOVER_S)
    assert [d.envelope.value for d in fresh] == [b"new"]
    assert len(bus.read([IN], cursor=advance({}, first))) == 7
    assert bus.read([IN], cursor=advance(cursor, fresh)) == []
    assert len(bus.read([IN])) == 11, "another place, though nothing was committed since"


def test_readers_at_different_places_take_turns_at_one_bus(bus: Bus) -> None:
    for i in range(12):
        bus.publish([event(str(i), key=f"key{i}", topic=(IN, OUT)[i % 2])])
    everything = wait_until(lambda: len(found := bus.read([IN, OUT])) == 12 and found)
    cursors = [advance({}, everything[:n]) for n in (9, 0, 5, 12, 2, 9)]
    rests = [bus.read([IN, OUT], cursor=cursor, limit=100) for cursor in cursors]
    assert [[d.envelope.value for d in rest] for rest in rests] == [
        [d.envelope.value for d in everything[n:]] for n in (9, 0, 5, 12, 2, 9)
    ]


def test_read_gives_older_events_first_over_topics(bus: Bus) -> None:
    for i in range(6):
        bus.publish([event(str(i), key=f"key{i}", topic=(IN, OUT)[i % 2])])
        written(bus, topic=(IN, OUT)[i % 2], count=i // 2 + 1)  # the next one has a later time stamp
    assert [d.envelope.value.decode() for d in bus.read([IN, OUT])] == [str(i) for i in range(6)]


def test_member_that_lost_its_partition_publishes_nothing(
    bus: Bus, bus_factory: BusFactory, join: Callable[..., Consumer]
) -> None:
    bus.publish([event("in")])
    with bus_factory.member("hold", "g", "zombie", IN, OUT) as zombie:
        assert zombie.says() == "held in"
        zombie.send(signal.SIGSTOP)
        successor = join(member="successor")
        successor.complete(taken(successor), outputs=[event("of the successor", topic=OUT)])
        zombie.send(signal.SIGUSR1)
        zombie.send(signal.SIGCONT)
        assert zombie.says().startswith("refused")
        bus.publish([event("last", topic=OUT)])
        assert written(bus, count=2) == ["of the successor", "last"]


def test_backlog_knows_the_oldest_event_that_the_group_has_not_completed(
    bus: Bus, join: Callable[..., Consumer]
) -> None:
    for i in range(3):
        bus.publish([event(str(i), key=str(i))])
    first = wait_until(lambda: bus.backlog("g", [IN]) if bus.backlog("g", [IN]).event_count == 3 else None)
    assert first.oldest is not None
    assert first.oldest.envelope.value == b"0"
    consumer = join()
    drained(consumer, count=3)
    empty = wait_until(lambda: bus.backlog("g", [IN]) if not bus.backlog("g", [IN]).event_count else None)
    assert empty.oldest is None
