"""A job of a queue leaves no lag behind, as KEDA counts it: by offsets, in which transactions' markers count too."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from waiting import wait_until

from mendloop.artifacts.store import ArtifactStore
from mendloop.bus.kafka import KafkaBus
from mendloop.bus.kafka_client import repeated
from mendloop.bus.receipts import StoredReceipts
from mendloop.bus.runtime import Emit, Event, Handler, Worker
from mendloop.core.contracts import contract_of
from mendloop.core.events import Envelope, envelope_for
from mendloop.core.telemetry import Telemetry
from mendloop.v1 import loop_pb2

pytestmark = pytest.mark.integration
SERVICE, INPUT, OUTPUT = "controller", loop_pb2.LoopCancelled, loop_pb2.BudgetExceeded


@pytest.fixture
def prefix() -> str:
    """Names of this test on a broker that others use too."""
    return f"t{secrets.token_hex(4)}."


@pytest.fixture
def bus(kafka_bootstrap: str, prefix: str) -> Iterator[KafkaBus]:
    """A bus with the topics of the job."""
    opened = KafkaBus(kafka_bootstrap, options={"name_prefix": prefix, "partition_count": "2"})
    opened.ensure_topics([contract_of(INPUT).topic, contract_of(OUTPUT).topic])
    yield opened
    opened.close()


def lag_as_keda_counts(bootstrap: str, *, group: str, topic: str) -> int:
    """The log's end less the committed offset; all of it where nothing is committed (offsetResetPolicy earliest)."""
    places = [TopicPartition(topic, number) for number in range(2)]
    with KafkaAdminClient(bootstrap_servers=[bootstrap]) as admin:
        committed = repeated(lambda: admin.list_group_offsets({group: places})).get(group, {})
    consumer = KafkaConsumer(bootstrap_servers=[bootstrap])
    ends = consumer.end_offsets(places)
    consumer.close()
    return sum(ends[place] - max(0, committed[place].offset if place in committed else 0) for place in places)


@pytest.fixture
def lag(kafka_bootstrap: str, prefix: str) -> Callable[[], int]:
    """The lag of the job's group on its topic, as KEDA counts it."""
    return partial(lag_as_keda_counts, kafka_bootstrap, group=prefix + SERVICE, topic=prefix + contract_of(INPUT).topic)


def envelope(number: int, *, key: str = "") -> Envelope:
    """An event of the job's topic."""
    return envelope_for(INPUT(reason="r"), event_id=f"e{number}", source="gateway", key=key or f"k{number}")


def worker(bus: KafkaBus, store: Path, handler: Handler, *, exit_when_idle_s: float = 0.0) -> Worker:
    """A job of the queue."""
    return Worker(
        service=SERVICE,
        bus=bus,
        handlers={INPUT: handler},
        receipts=StoredReceipts(ArtifactStore(store)),
        telemetry=Telemetry(SERVICE),
        member="job-1",
        exit_when_idle_s=exit_when_idle_s,
    )


def test_a_job_works_the_queue_and_leaves_no_lag(bus: KafkaBus, lag: Callable[[], int], tmp_path: Path) -> None:
    events = [envelope(number) for number in range(5)]
    for event in events:
        bus.publish([event])
    assert lag() >= len(events)
    done: list[str] = []

    def handler(event: Event) -> list[Emit]:
        done.append(event.event_id)
        return [Emit(OUTPUT(), key="out")]

    worker(bus, tmp_path, handler, exit_when_idle_s=8.0).run()  # ends by itself

    assert sorted(done) == [event.event_id for event in events]
    assert lag() == 0


def test_a_marker_behind_a_finished_event_is_no_lag_while_the_next_event_is_at_work(
    bus: KafkaBus, lag: Callable[[], int], tmp_path: Path
) -> None:
    for number, key in enumerate(("k0", "k3")):  # on two partitions
        bus.publish([envelope(number, key=key)])
    assert lag() == 4, "two events, each in a transaction that leaves a marker"
    begun: list[str] = []
    released = threading.Event()

    def handler(event: Event) -> list[Emit]:
        begun.append(event.event_id)
        if len(begun) == 2:
            released.wait()
        return []

    job = worker(bus, tmp_path, handler)
    thread = threading.Thread(target=job.run)
    thread.start()
    try:
        wait_until(lambda: lag() == 2, deadline_s=20)
    finally:
        released.set()
        job.stop()
        thread.join()


def test_what_a_member_left_behind_its_last_event_is_no_lag_for_ever(
    bus: KafkaBus, lag: Callable[[], int], tmp_path: Path
) -> None:
    bus.publish([envelope(0)])
    member = bus.consumer(SERVICE, [contract_of(INPUT).topic], member="gone")
    member.complete(wait_until(lambda: member.poll(timeout_s=1.0)))
    member.close()
    assert lag() == 1, "the marker of the event's transaction"

    worker(bus, tmp_path, lambda event: [], exit_when_idle_s=4.0).run()

    assert lag() == 0
