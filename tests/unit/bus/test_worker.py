"""What the consume loop does when its bus fails. What it does otherwise: tests/behaviour/test_worker.py."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from waiting import wait_until

from mendloop.artifacts.store import ArtifactStore
from mendloop.bus.base import Delivery
from mendloop.bus.receipts import StoredReceipts
from mendloop.bus.runtime import Emit, Event, Handler, Worker
from mendloop.core.contracts import DEAD_LETTER_TOPIC
from mendloop.core.errors import MendloopError, Permanent, Retryable
from mendloop.core.events import Envelope, envelope_for
from mendloop.core.telemetry import Telemetry
from mendloop.v1 import loop_pb2

INPUT, OUTPUT = loop_pb2.LoopCancelled, loop_pb2.BudgetExceeded


class FakeConsumer:
    """Gives one event again and again until it is completed; fails as it is told."""

    def __init__(self, *, fails: Sequence[tuple[str, MendloopError]]) -> None:
        envelope = envelope_for(INPUT(reason="r"), event_id="e1", source="gateway", key="k")
        self.delivery: Delivery | None = Delivery(envelope, envelope.topic, 0, 0)
        self.published: list[Envelope] = []
        self.is_closed = False
        self._fails = deque(fails)

    def _maybe_fail(self, method: str) -> None:
        if self._fails and self._fails[0][0] == method:
            raise self._fails.popleft()[1]

    def poll(self, *, timeout_s: float) -> Delivery | None:
        self._maybe_fail("poll")
        return self.delivery

    def complete(self, delivery: Delivery, *, outputs: Sequence[Envelope] = ()) -> None:
        self._maybe_fail("complete")
        self.published.extend(outputs)
        self.delivery = None

    def defer(self, delivery: Delivery, *, until: float) -> None:
        self._maybe_fail("defer")

    def heartbeat(self) -> None:
        self._maybe_fail("heartbeat")

    def close(self) -> None:
        self.is_closed = True


class FakeBus:
    """Joins groups with one fake consumer, as often failing as told."""

    def __init__(self, consumer: FakeConsumer, *, join_failure_count: int = 0) -> None:
        self._consumer, self.join_failures_left = consumer, join_failure_count

    def consumer(self, group: str, topics: Sequence[str], *, member: str) -> FakeConsumer:
        if self.join_failures_left:
            self.join_failures_left -= 1
            raise Retryable("no broker yet")
        return self._consumer


def run(tmp_path: Path, consumer: FakeConsumer, *, handler: Handler, join_failure_count: int = 0) -> list[Envelope]:
    """What a worker publishes for the one event."""
    worker = Worker(
        service="controller",
        bus=FakeBus(consumer, join_failure_count=join_failure_count),  # type: ignore[arg-type]  # the part that is used
        handlers={INPUT: handler},
        receipts=StoredReceipts(ArtifactStore(tmp_path)),
        telemetry=Telemetry("controller"),
        member="m",
    )
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        wait_until(lambda: consumer.published)
    finally:
        worker.stop()
        thread.join()
    assert consumer.is_closed
    return consumer.published


def echo(event: Event) -> list[Emit]:
    return [Emit(OUTPUT(), key="out")]


def test_worker_waits_for_a_bus_that_is_away(tmp_path: Path) -> None:
    consumer = FakeConsumer(fails=[("poll", Retryable("away"))])
    assert [e.key for e in run(tmp_path, consumer, handler=echo, join_failure_count=1)] == ["out"]


def test_completion_that_fails_runs_the_handler_no_second_time(tmp_path: Path) -> None:
    runs: list[str] = []

    def handler(event: Event) -> list[Emit]:
        runs.append(event.event_id)
        return echo(event)

    consumer = FakeConsumer(fails=[("complete", Retryable("lost"))])
    assert [e.key for e in run(tmp_path, consumer, handler=handler)] == ["out"]
    assert runs == ["e1"]


def test_outputs_that_the_bus_will_never_take_become_a_dead_letter(tmp_path: Path) -> None:
    consumer = FakeConsumer(fails=[("complete", Permanent("2 MB are too large"))])
    published = run(tmp_path, consumer, handler=echo)
    assert [e.topic for e in published] == [DEAD_LETTER_TOPIC]


def test_handler_goes_on_when_a_heartbeat_fails(tmp_path: Path) -> None:
    consumer = FakeConsumer(fails=[("heartbeat", Retryable("locked"))])

    def slow(event: Event) -> list[Emit]:
        wait_until(lambda: not consumer._fails)
        return echo(event)

    assert [e.key for e in run(tmp_path, consumer, handler=slow)] == ["out"]


def drained(tmp_path: Path, consumer: FakeConsumer, *, join_failure_count: int = 0) -> Worker:
    """A job of a queue that has ended itself."""
    worker = Worker(
        service="controller",
        bus=FakeBus(consumer, join_failure_count=join_failure_count),  # type: ignore[arg-type]  # the part that is used
        handlers={INPUT: echo},
        receipts=StoredReceipts(ArtifactStore(tmp_path)),
        telemetry=Telemetry("controller"),
        member="m",
        exit_when_idle_s=0.05,
    )
    worker.run()  # nobody stops it
    return worker


def test_a_job_of_a_queue_works_what_is_there_and_then_ends(tmp_path: Path) -> None:
    consumer = FakeConsumer(fails=[])
    drained(tmp_path, consumer)
    assert [e.key for e in consumer.published] == ["out"]
    assert consumer.is_closed


def test_a_bus_that_is_away_is_no_empty_queue(tmp_path: Path) -> None:
    consumer = FakeConsumer(fails=[("poll", Retryable("away"))])
    drained(tmp_path, consumer, join_failure_count=1)
    assert [e.key for e in consumer.published] == ["out"]
