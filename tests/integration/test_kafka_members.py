"""What only Kafka needs: partitions have owners there, also while their owner is at work for an hour."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterator

import pytest
from waiting import wait_until

from mendloop.bus import kafka_consumer
from mendloop.bus.kafka import KafkaBus
from mendloop.core.events import Envelope

pytestmark = pytest.mark.integration


@pytest.fixture
def bus(kafka_bootstrap: str) -> Iterator[KafkaBus]:
    """An empty bus with the topic t."""
    options = {"name_prefix": f"t{secrets.token_hex(4)}.", "heartbeat_interval_ms": "300", "partition_count": "4"}
    bus = KafkaBus(kafka_bootstrap, options=options)
    bus.ensure_topics(["t"])
    yield bus
    bus.close()


def test_member_long_at_work_lends_its_other_partitions(bus: KafkaBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_consumer, "LEND_AFTER_S", 0.5)
    bus.publish([Envelope("t", "long", b"long")])
    busy = bus.consumer("g", ["t"], member="busy")
    held = wait_until(lambda: busy.poll(timeout_s=0.2))
    bus.publish([Envelope("t", f"key{i}", b"short") for i in range(20)])
    done = threading.Event()

    def work_off() -> None:
        with contextlib.closing(bus.consumer("g", ["t"], member="free")) as free:
            while not done.is_set():
                delivery = free.poll(timeout_s=0.2)
                if delivery is not None:
                    free.complete(delivery)

    def only_what_waits_behind_the_long_one_is_left() -> bool:
        busy.heartbeat()
        behind = sum(d.partition == held.partition for d in bus.read(["t"]))
        return bus.lag("g", ["t"]) == behind < 21

    thread = threading.Thread(target=work_off)
    thread.start()
    with contextlib.ExitStack() as stack:
        stack.callback(busy.close)
        stack.callback(thread.join)
        stack.callback(done.set)
        wait_until(only_what_waits_behind_the_long_one_is_left, every_s=0.2, deadline_s=60)
        busy.complete(held)


def test_loops_on_one_cluster_do_not_see_one_another(bus: KafkaBus, kafka_bootstrap: str) -> None:
    other = KafkaBus(kafka_bootstrap, options={"name_prefix": f"t{secrets.token_hex(4)}."})
    other.ensure_topics(["t"])
    bus.publish([Envelope("t", "k", b"ours")])
    found = wait_until(lambda: bus.read(["t"]))
    assert [(d.topic, d.envelope.topic, d.envelope.value) for d in found] == [("t", "t", b"ours")]
    assert other.read(["t"]) == []
    other.close()
