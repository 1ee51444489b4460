"""What the consume loop promises on every bus: retries, dead letters, receipts, work given back."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from behaviour_buses import BusFactory
from google.protobuf.message import Message
from waiting import wait_until

from mendloop.artifacts.store import ArtifactStore
from mendloop.bus.base import Bus
from mendloop.bus.receipts import StoredReceipts
from mendloop.bus.runtime import Emit, Event, Handler, RetryPolicy, Worker
from mendloop.core.contracts import DEAD_LETTER_TOPIC, contract_of, decode
from mendloop.core.errors import Interrupted, Permanent, Retryable
from mendloop.core.events import RETRY_ATTEMPT_HEADER, RETRY_NOT_BEFORE_HEADER, Envelope, envelope_for
from mendloop.core.telemetry import Telemetry
from mendloop.v1 import loop_pb2, operations_pb2

SERVICE = "controller"
INPUT, OUTPUT = loop_pb2.LoopCancelled, loop_pb2.BudgetExceeded
QUICK = RetryPolicy(attempts=3, base_s=0.05, cap_s=0.2)

Started = Callable[..., Worker]


@pytest.fixture
def bus(bus_factory: BusFactory) -> Iterator[Bus]:
    """A bus with all topics of the tests."""
    bus = bus_factory()
    bus.ensure_topics([contract_of(INPUT).topic, contract_of(OUTPUT).topic, DEAD_LETTER_TOPIC])
    yield bus
    bus.close()


@pytest.fixture
def start(bus_factory: BusFactory, tmp_path: Path) -> Iterator[Started]:
    """Runs a worker in a thread until the test ends."""
    with contextlib.ExitStack() as stack:

        def started(handler: Handler, *, member: str = "m1") -> Worker:
            own = bus_factory()
            worker = Worker(
                service=SERVICE,
                bus=own,
                handlers={INPUT: handler},
                receipts=StoredReceipts(ArtifactStore(tmp_path / "store")),
                telemetry=Telemetry(SERVICE),
                member=member,
                retry=QUICK,
            )
            thread = threading.Thread(target=worker.run)
            thread.start()
            stack.callback(own.close)
            stack.callback(thread.join)
            stack.callback(worker.stop)
            return worker

        yield started


def cancelled(event_id: str, *, reason: str = "") -> Envelope:
    return envelope_for(INPUT(reason=reason), event_id=event_id, source="gateway", key=event_id)


def echo(event: Event) -> list[Emit]:
    assert isinstance(event.message, INPUT)
    return [Emit(OUTPUT(), key=event.message.reason)]


def seen(bus: Bus, message: type[Message], *, count: int = 1) -> list[Envelope]:
    """Events of a type as soon as there are as many as expected."""

    def read() -> list[Envelope] | None:
        found = [d.envelope for d in bus.read([contract_of(message).topic])]
        return found if len(found) >= count else None

    return wait_until(read)


def letters(bus: Bus, *, count: int = 1) -> list[operations_pb2.DeadLetter]:
    found = [decode(e.event_type, e.value) for e in seen(bus, operations_pb2.DeadLetter, count=count)]
    return [letter for letter in found if isinstance(letter, operations_pb2.DeadLetter)]


def test_outputs_carry_the_trace_and_a_hashed_id(bus: Bus, start: Started) -> None:
    start(echo)
    sent = cancelled("e1", reason="r1")
    bus.publish([sent])
    output = seen(bus, OUTPUT)[0]
    assert output.key == "r1"
    assert output.headers["traceparent"].split("-")[1] == sent.headers["traceparent"].split("-")[1]
    assert output.event_id not in {"", "e1"}


def test_event_delivered_twice_runs_the_handler_once(bus: Bus, start: Started) -> None:
    runs: list[str] = []

    def handler(event: Event) -> list[Emit]:
        runs.append(event.event_id)
        return echo(event)

    bus.publish([cancelled("same"), cancelled("same")])
    start(handler)
    outputs = seen(bus, OUTPUT, count=2)
    assert runs == ["same"]
    assert outputs[0].event_id == outputs[1].event_id


def test_retryable_error_is_tried_again_after_a_delay(bus: Bus, start: Started) -> None:
    tries: list[float] = []

    def handler(event: Event) -> list[Emit]:
        tries.append(time.monotonic())
        if len(tries) == 1:
            raise Retryable("a hiccup")
        return echo(event)

    start(handler)
    bus.publish([cancelled("e1")])
    seen(bus, OUTPUT)
    assert len(tries) == 2
    assert tries[1] - tries[0] >= QUICK.base_s / 2
    assert bus.read([DEAD_LETTER_TOPIC]) == []


def test_event_that_fails_too_often_becomes_a_dead_letter(bus: Bus, start: Started) -> None:
    tries: list[str] = []

    def handler(event: Event) -> list[Emit]:
        tries.append(event.event_id)
        raise Retryable("teacher is away")

    start(handler)
    sent = cancelled("e1", reason="r")
    bus.publish([sent])
    letter = letters(bus)[0]
    assert len(tries) == QUICK.attempts == letter.attempt_count
    assert letter.reason == "Retryable: teacher is away"
    assert (letter.topic, letter.key, letter.value) == (sent.topic, sent.key, sent.value)


def test_permanent_error_becomes_a_dead_letter_at_once(bus: Bus, start: Started) -> None:
    def handler(event: Event) -> list[Emit]:
        raise Permanent("no such corpus")

    start(handler)
    bus.publish([cancelled("e1")])
    letter = letters(bus)[0]
    assert (letter.attempt_count, letter.reason, letter.handler) == (1, "Permanent: no such corpus", SERVICE)


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        (lambda e: Envelope(e.topic, e.key, b"\xff\xff\xff", e.headers), "bytes are not a"),
        (lambda e: Envelope(e.topic, e.key, e.value, {"ce_id": "x"}), "lacks the header(s) ce_type, ce_source"),
        (lambda e: e.with_headers(ce_type="mendloop.v1.Unheard"), "no handler for 'mendloop.v1.Unheard'"),
        (lambda e: e.with_headers(ce_type="", **{RETRY_ATTEMPT_HEADER: "many"}), "lacks the header(s) ce_type"),
        (lambda e: e.with_headers(ce_type="", **{RETRY_NOT_BEFORE_HEADER: "inf"}), "lacks the header(s) ce_type"),
        (lambda e: e.with_headers(ce_type="", **{RETRY_NOT_BEFORE_HEADER: "9e99"}), "lacks the header(s) ce_type"),
    ],
    ids=["bytes", "headers", "type", "attempt", "infinite wait", "endless wait"],
)
def test_poison_event_goes_to_the_dead_letters_and_stops_nobody(
    bus: Bus, start: Started, poison: Callable[[Envelope], Envelope], reason: str
) -> None:
    good = cancelled("good", reason="after")
    bad = poison(cancelled("bad"))
    bus.publish([Envelope(bad.topic, good.key, bad.value, bad.headers), good])
    start(echo)
    assert [e.key for e in seen(bus, OUTPUT)] == ["after"]
    letter = letters(bus)[0]
    assert reason in letter.reason
    assert letter.value == bad.value


def test_interrupted_work_is_given_back_and_done_by_another(bus: Bus, start: Started) -> None:
    started = threading.Event()

    def long_work(event: Event) -> list[Emit]:
        started.set()
        wait_until(event.is_stopping)
        raise Interrupted("told to stop")

    bus.publish([cancelled("e1", reason="done")])
    first = start(long_work, member="first")
    assert started.wait(20)
    first.stop()
    start(echo, member="second")
    assert [e.key for e in seen(bus, OUTPUT)] == ["done"]
    assert bus.read([DEAD_LETTER_TOPIC]) == []


def test_handler_that_works_longer_than_a_session_runs_once(bus: Bus, start: Started) -> None:
    runs: list[str] = []

    def slow(event: Event) -> list[Emit]:
        runs.append(event.event_id)
        until = time.monotonic() + 3.5
        wait_until(lambda: time.monotonic() > until)
        return echo(event)

    start(slow, member="first")
    start(slow, member="second")
    bus.publish([cancelled("e1", reason="done")])
    seen(bus, OUTPUT)
    wait_until(lambda: bus.lag(SERVICE, [contract_of(INPUT).topic]) == 0)
    assert runs == ["e1"]
