"""Work on a real broker as the services make and take it: topics as the chart's hook lays them out, events, workers."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from google.protobuf.message import Message
from kafka.partitioner.default import murmur2

from mendloop.artifacts.store import ArtifactStore
from mendloop.bus.kafka import KafkaBus
from mendloop.bus.receipts import StoredReceipts
from mendloop.bus.runtime import Emit, Event, Worker
from mendloop.core.events import Envelope, envelope_for
from mendloop.core.telemetry import Telemetry

PARTITION_COUNT = 8


def lay_out_topics(bus: str, *, options: Mapping[str, str], work: Path) -> None:
    """What the chart's hook runs, with its settings."""
    environment = {
        **os.environ,
        "MENDLOOP_BUS": bus,
        "MENDLOOP_BUS_OPTIONS": json.dumps(options),
        "MENDLOOP_ARTIFACTS_URI": work.as_uri(),
        "MENDLOOP_WORK_DIR": str(work),
    }
    command = [sys.executable, "-m", "mendloop.bus.topics", "--retention-days=90", "--work-retention-days=7"]
    subprocess.run(command, check=True, capture_output=True, env=environment)


def partition_of(key: str) -> int:
    """Where the bus puts an event with this key."""
    return int((murmur2(key.encode()) & 0x7FFFFFFF) % PARTITION_COUNT)


def keys_apart(count: int) -> list[str]:
    """Keys of which each goes to a partition of its own."""
    found: dict[int, str] = {}
    for number in range(100 * PARTITION_COUNT):
        key = f"run-{number}"
        found.setdefault(partition_of(key), key)
    return list(found.values())[:count]


def envelope(message: Message, *, key: str, number: int = 0) -> Envelope:
    """An event of the message's topic."""
    event_id = f"{type(message).__name__}-{key}-{number}"
    return envelope_for(message, event_id=event_id, source="test", key=key, subject=key)


@contextlib.contextmanager
def working(
    service: str, messages: Sequence[type[Message]], *, bus: KafkaBus, store: Path, member: str = "worker-1"
) -> Iterator[list[str]]:
    """One replica of a service at work while the block runs; gives the ids of the events that it finished."""
    done: list[str] = []

    def handler(event: Event) -> list[Emit]:
        done.append(event.event_id)
        return []

    worker = Worker(
        service=service,
        bus=bus,
        handlers=dict.fromkeys(messages, handler),
        receipts=StoredReceipts(ArtifactStore(store)),
        telemetry=Telemetry(service),
        member=member,
    )
    thread = threading.Thread(target=worker.run, name=member)
    thread.start()
    try:
        yield done
    finally:
        worker.stop()
        thread.join()
