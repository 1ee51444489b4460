"""A job of a queue leaves no lag behind, as KEDA counts it: by offsets, in which transactions' markers count too."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

from mendloop.artifacts.store import ArtifactStore
from mendloop.bus.kafka import KafkaBus
from mendloop.bus.kafka_client import repeated
from mendloop.bus.receipts import StoredReceipts
from mendloop.bus.runtime import Emit, Event, Worker
from mendloop.core.contracts import contract_of
from mendloop.core.events import envelope_for
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


def test_a_job_works_the_queue_and_leaves_no_lag(
    bus: KafkaBus, kafka_bootstrap: str, prefix: str, tmp_path: Path
) -> None:
    topic = contract_of(INPUT).topic
    events = [envelope_for(INPUT(reason="r"), event_id=f"e{i}", source="gateway", key=f"k{i}") for i in range(5)]
    for event in events:
        bus.publish([event])
    assert lag_as_keda_counts(kafka_bootstrap, group=prefix + SERVICE, topic=prefix + topic) >= len(events)

    done: list[str] = []

    def handler(event: Event) -> list[Emit]:
        done.append(event.event_id)
        return [Emit(OUTPUT(), key="out")]

    Worker(
        service=SERVICE,
        bus=bus,
        handlers={INPUT: handler},
        receipts=StoredReceipts(ArtifactStore(tmp_path)),
        telemetry=Telemetry(SERVICE),
        member="job-1",
        exit_when_idle_s=8.0,
    ).run()  # ends by itself

    assert sorted(done) == [event.event_id for event in events]
    assert lag_as_keda_counts(kafka_bootstrap, group=prefix + SERVICE, topic=prefix + topic) == 0
