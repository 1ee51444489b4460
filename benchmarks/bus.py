"""What the buses cost: throughput, latency, transactions and idle CPU, beside bare kafka-python in the same run.

`python benchmarks/bus.py --help` says what each row means.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import random
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata
from rich.console import Console
from rich.table import Table

from mendloop.bus.base import Bus
from mendloop.bus.broker import DEFAULT_CACHE, running_broker
from mendloop.bus.kafka_client import headers_of
from mendloop.bus.receipts import StoredReceipts
from mendloop.bus.runtime import Emit, Event, Worker
from mendloop.bus.wiring import open_bus, open_store
from mendloop.core.contracts import CONTRACTS, CONTROLLER
from mendloop.core.events import Envelope
from mendloop.core.telemetry import Telemetry

BATCH = 100
ROUNDS = 3
EVENT_BYTES = 1024
IDLE_S = 10.0
GROUP = "bench"
TUNED_MS, DEFAULT_MS = 2, 100
# The loop pays these on Kafka and bare kafka-python is given the same, so that the ratio compares like with like.
CONSUMER = {"isolation_level": "read_committed", "auto_offset_reset": "earliest", "enable_auto_commit": False}


@dataclass(frozen=True, slots=True)
class Row:
    """One measured quantity: the median and all rounds."""

    what: str
    unit: str
    bus: str
    median: float
    rounds: list[float]


class Raw:
    """Bare kafka-python with the bus's guarantees: idempotent, acks=all, one transaction a batch, read_committed."""

    def __init__(self, bootstrap: str, *, retry_backoff_ms: int) -> None:
        self._bootstrap = bootstrap
        self._producer = KafkaProducer(
            bootstrap_servers=bootstrap,
            transactional_id=f"raw.{secrets.token_hex(4)}",
            retry_backoff_ms=retry_backoff_ms,
            metrics_enabled=False,
        )
        self._producer.init_transactions()

    def publish(self, envelopes: list[Envelope]) -> None:
        """One transaction."""
        self._producer.begin_transaction()
        for e in envelopes:
            self._producer.send(e.topic, key=e.key.encode(), value=e.value, headers=headers_of(e))
        self._producer.commit_transaction()

    def read(self, topic: str, *, count: int) -> int:
        """Fetch the topic from the start until count events came."""
        consumer = KafkaConsumer(bootstrap_servers=self._bootstrap, metrics_enabled=False, **CONSUMER)
        consumer.assign([TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic)])
        found = 0
        while found < count:
            found += sum(map(len, consumer.poll(timeout_ms=200, max_records=2_000).values()))
        consumer.close()
        return found

    def copy(self, topic: str, output: str, *, count: int) -> list[float]:
        """Consume, produce one output and commit both, event by event; seconds of each transaction."""
        consumer = KafkaConsumer(
            topic,
            bootstrap_servers=self._bootstrap,
            group_id=f"raw.{secrets.token_hex(4)}",
            metrics_enabled=False,
            **CONSUMER,
        )
        took: list[float] = []
        while len(took) < count:
            for place, records in consumer.poll(timeout_ms=200).items():
                for record in records[: count - len(took)]:
                    started = time.perf_counter()
                    self._producer.begin_transaction()
                    self._producer.send(output, key=record.key, value=record.value, headers=record.headers)
                    moved = {place: OffsetAndMetadata(record.offset + 1, "", -1)}
                    self._producer.send_offsets_to_transaction(moved, consumer.group_metadata())
                    self._producer.commit_transaction()
                    took.append(time.perf_counter() - started)
        consumer.close()
        return took

    def close(self) -> None:
        """Let the producer go."""
        self._producer.close()


def _events(topic: str, *, count: int) -> list[Envelope]:
    value = secrets.token_bytes(EVENT_BYTES)
    headers = {"ce_id": "0" * 32, "ce_type": "mendloop.v1.Bench", "ce_source": "/mendloop/bench"}
    return [Envelope(topic, f"key{i % 64}", value, headers) for i in range(count)]


def _publish(publish: Callable[[list[Envelope]], None], topic: str, *, count: int) -> float:
    events = _events(topic, count=count)
    started = time.perf_counter()
    for start in range(0, count, BATCH):
        publish(events[start : start + BATCH])
    return count / (time.perf_counter() - started)


def _read(bus: Bus, topic: str, *, count: int) -> float:
    started = time.perf_counter()
    while len(bus.read([topic], limit=count)) < count:
        pass
    return count / (time.perf_counter() - started)


def _copy(bus: Bus, topic: str, output: str, *, count: int) -> list[float]:
    consumer = bus.consumer(f"{GROUP}.{secrets.token_hex(4)}", [topic], member=f"m{secrets.token_hex(4)}")
    took: list[float] = []
    while len(took) < count:
        delivery = consumer.poll(timeout_s=1.0)
        if delivery is None:
            continue
        e = delivery.envelope
        started = time.perf_counter()
        consumer.complete(delivery, outputs=[Envelope(output, e.key, e.value, e.headers)])
        took.append(time.perf_counter() - started)
    consumer.close()
    return took


def _latency(bus: Bus, topic: str, *, count: int) -> list[float]:
    """Seconds from the start of publish until poll has the event, in another thread as in another service."""
    consumer = bus.consumer(f"{GROUP}.{secrets.token_hex(4)}", [topic], member=f"m{secrets.token_hex(4)}")
    took: list[float] = []
    sent: list[float] = []
    rng = random.Random(0)
    is_ready, done = threading.Event(), threading.Event()

    def publish() -> None:
        for event in _events(topic, count=count + 1):
            is_ready.wait(10)
            is_ready.clear()
            if done.is_set():
                return
            time.sleep(rng.uniform(0.01, 0.06))  # the consumer waits by then, and not in step with us
            sent.append(time.perf_counter())
            bus.publish([event])

    thread = threading.Thread(target=publish)
    while consumer.poll(timeout_s=0.5) is not None:
        pass
    thread.start()
    is_ready.set()
    while len(took) < count:
        delivery = consumer.poll(timeout_s=1.0)
        if delivery is None:
            continue
        took.append(time.perf_counter() - sent[-1])
        consumer.complete(delivery)
        is_ready.set()
    done.set()
    is_ready.set()
    thread.join()
    consumer.close()
    return took


def _idle(url: str, options: dict[str, str]) -> float:
    """Percent of one core that a controller's consume loop takes while nothing happens, measured in its process."""
    command = [sys.executable, __file__, "--idle", json.dumps([url, options])]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _nothing(event: Event) -> list[Emit]:
    return []


def _idle_here(url: str, options: dict[str, str]) -> float:
    handlers = {contract.message: _nothing for contract in CONTRACTS if CONTROLLER in contract.consumers}
    with tempfile.TemporaryDirectory() as store:
        worker = Worker(
            service=CONTROLLER,
            bus=open_bus(url, options=options),
            handlers=handlers,
            receipts=StoredReceipts(open_store(store)),
            telemetry=Telemetry(CONTROLLER),
            member="idle",
        )
        thread = threading.Thread(target=worker.run)
        thread.start()
        time.sleep(3)
        cpu, wall = time.process_time(), time.perf_counter()
        time.sleep(IDLE_S)
        share = (time.process_time() - cpu) / (time.perf_counter() - wall)
        worker.stop()
        thread.join()
    return share * 100


def _measure(bootstrap: str, *, count: int, transactions: int, latencies: int, console: Console) -> list[Row]:
    found: dict[tuple[str, str, str], list[float]] = {}

    def note(what: str, unit: str, bus: str, value: float) -> None:
        found.setdefault((what, unit, bus), []).append(value)

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        urls = {"local": f"local:{folder}/bus.db", "kafka": f"kafka:{bootstrap}"}
        buses = {name: open_bus(url, options={}) for name, url in urls.items()}
        tuned, default = Raw(bootstrap, retry_backoff_ms=TUNED_MS), Raw(bootstrap, retry_backoff_ms=DEFAULT_MS)
        for thing in (*buses.values(), tuned, default):
            stack.callback(thing.close)
        _publish_and_read_once(buses, tuned, default)
        for number in range(ROUNDS):
            console.print(f"round {number + 1} of {ROUNDS}")
            topics = {name: f"bench.{name}.{secrets.token_hex(4)}" for name in ("local", "kafka", "raw")}
            for bus in buses.values():
                bus.ensure_topics([*topics.values(), *(f"{topic}.out" for topic in topics.values())])
            for name, bus in buses.items():
                note("publish", "events/s", name, _publish(bus.publish, topics[name], count=count))
            note("publish", "events/s", "raw", _publish(tuned.publish, topics["raw"], count=count))
            for name, bus in buses.items():
                note("read", "events/s", name, _read(bus, topics[name], count=count))
            started = time.perf_counter()
            note("read", "events/s", "raw", tuned.read(topics["raw"], count=count) / (time.perf_counter() - started))
            took = {n: _copy(b, topics[n], f"{topics[n]}.out", count=transactions) for n, b in buses.items()}
            took["raw"] = tuned.copy(topics["raw"], f"{topics['raw']}.out", count=transactions)
            took["raw, defaults"] = default.copy(
                topics["raw"], f"{topics['raw']}.out", count=max(10, transactions // 10)
            )
            for name, seconds in took.items():
                note("transaction p50", "ms", name, statistics.median(seconds) * 1000)
                note("transaction p95", "ms", name, statistics.quantiles(seconds, n=20)[-1] * 1000)
                note("consume-process-produce", "events/s", name, len(seconds) / sum(seconds))
            for name, bus in buses.items():
                fresh = f"bench.latency.{secrets.token_hex(4)}"
                bus.ensure_topics([fresh])
                waits = _latency(bus, fresh, count=latencies)
                note("publish to poll p50", "ms", name, statistics.median(waits) * 1000)
                note("publish to poll p95", "ms", name, statistics.quantiles(waits, n=20)[-1] * 1000)
        for name, url in urls.items():
            console.print(f"idle on {name}, {IDLE_S:.0f} s")
            note("idle consume loop", "% of a core", name, _idle(url, {}))
    return [Row(*place, statistics.median(values), values) for place, values in found.items()]


def _publish_and_read_once(buses: dict[str, Bus], *raws: Raw) -> None:
    """First uses pay for connections and internal topics; they are not what the rows mean."""
    topic = f"bench.warm.{secrets.token_hex(4)}"
    for bus in buses.values():
        bus.ensure_topics([topic])
        bus.publish(_events(topic, count=2 * BATCH))
        _read(bus, topic, count=2 * BATCH)
        _copy(bus, topic, topic, count=3)
    for raw in raws:
        raw.publish(_events(topic, count=BATCH))
        raw.copy(topic, topic, count=3)


def _ratios(rows: list[Row]) -> dict[str, float]:
    """Ours through bare kafka-python, round by round, then the median: both had the same neighbours on the machine."""
    by = {(row.what, row.bus): row.rounds for row in rows}
    return {
        what: statistics.median(ours / raw for ours, raw in zip(by[what, "kafka"], by[what, "raw"], strict=True))
        for what in ("publish", "read", "consume-process-produce")
    }


def _show(rows: list[Row], ratios: dict[str, float], *, console: Console) -> None:
    table = Table(title="The buses, medians over rounds (raw = bare kafka-python)")
    for name in ("what", "unit", "bus", "median", "rounds"):
        table.add_column(name, justify="right" if name in {"median", "rounds"} else "left")
    for row in rows:
        table.add_row(row.what, row.unit, row.bus, f"{row.median:,.2f}", " ".join(f"{v:,.2f}" for v in row.rounds))
    console.print(table)
    for what, ratio in ratios.items():
        console.print(f"{what}: Kafka bus / bare kafka-python = {ratio:.2f}")


def main(
    events: Annotated[int, typer.Option(help="Events of 1 KB for publish and read, each round.")] = 10_000,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all figures here.")] = None,
    idle: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure the SQLite bus, the Kafka bus and bare kafka-python in one run, interleaved, three rounds.

    \b
    publish                  events/s, transactions of 100 events of 1 KB
    read                     events/s, committed events without a group, from the start
    transaction              one event taken, one output and the offset committed: p50, p95
    consume-process-produce  events/s of the same, one after the other
    publish to poll          from the start of publish until another thread's poll has the event
    idle consume loop        CPU of a controller's consume loop with nothing to do, in a process of its own

    "raw" is bare kafka-python with the same guarantees: idempotent, acks=all, a transaction for each batch or event,
    read_committed, retry_backoff_ms=2. "raw, defaults" is the same with kafka-python's retry_backoff_ms=100.
    A broker is started for the run; Java and, the first time, Maven are needed (mend doctor says what is missing).
    A quick look: python benchmarks/bus.py --events 1000
    """
    if idle:
        print(_idle_here(*json.loads(idle)))
        return
    console = Console()
    cache = Path(os.environ.get("MENDLOOP_CACHE") or DEFAULT_CACHE)
    with running_broker(cache=cache) as bootstrap:
        rows = _measure(
            bootstrap,
            count=events,
            transactions=max(20, events // 50),
            latencies=max(20, events // 100),
            console=console,
        )
    ratios = _ratios(rows)
    _show(rows, ratios, console=console)
    if json_path is not None:
        machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
        report = {"machine": machine, "ratios": ratios, "rows": [asdict(row) for row in rows]}
        json_path.write_text(json.dumps(report, indent=1) + "\n")
        console.print(f"written to {json_path}")


if __name__ == "__main__":
    typer.run(main)
