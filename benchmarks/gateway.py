"""Seconds from the commit of an EvalFailed on the bus to its receipt by streams (server-sent events and gRPC) and
webhooks, and what is lost.

The gateway is a process, the streams and the webhooks' receiver are another, the publisher is this one. Phases:
steady (latency), burst (throughput), a restart of the gateway, an outage of subscribers, and kill -9 of the gateway
while it delivers. Lost and doubled events are counted over all phases; 0 is expected, save that a webhook's delivery
whose place was not yet written comes again, with the same id, after the kill: counted apart. `python
benchmarks/gateway.py --help` names the options.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.table import Table

from mendloop.bus.base import Bus
from mendloop.bus.broker import DEFAULT_CACHE, running_broker
from mendloop.bus.wiring import open_bus
from mendloop.core.contracts import all_topics
from mendloop.core.events import envelope_for
from mendloop.core.wire import proportion, slice_message
from mendloop.v1 import common_pb2, evaluation_pb2

READY_S, DRAIN_S = 300.0, 300.0
KILLED, KILL_AFTER_S = "killed", 0.25
"""The phase whose events are being delivered when the gateway is killed; the median of a delivery is 0.16 s."""
JUMP = slice_message([("operation", "jump"), ("output", "long")])


@dataclass(frozen=True, slots=True)
class Row:
    """One bus and kind of subscriber. Latencies in seconds; throughput in receipts a second over the burst."""

    bus: str
    subscriber: str
    count: int
    events: int
    p50_s: float
    p95_s: float
    max_s: float
    burst_events: int
    burst_receipts_per_s: float
    lost: int
    doubled: int
    doubled_by_kill: int


class Publisher:
    """Publishes EvalFailed one by one and keeps when each was committed, and in which phase."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.committed: dict[str, float] = {}
        self.phases: dict[str, list[str]] = {}

    def publish(self, phase: str, count: int, *, every_s: float = 0.0) -> None:
        """Publish; with every_s one event each so many seconds, else all of them in one transaction."""
        if not every_s:
            self._publish(phase, count)
            return
        for n in range(count):
            due = time.monotonic() + every_s
            self._publish(phase, 1)
            if n + 1 < count:
                time.sleep(max(0.0, due - time.monotonic()))

    def _publish(self, phase: str, count: int) -> None:
        names = self.phases.setdefault(phase, [])
        ids = [f"{phase}-{len(names) + n}" for n in range(count)]
        self._bus.publish([envelope_for(_failure(), event_id=i, source="benchmark", key="bench") for i in ids])
        now = time.monotonic()
        self.committed |= dict.fromkeys(ids, now)
        names += ids


def _failure() -> evaluation_pb2.EvalFailed:
    return evaluation_pb2.EvalFailed(
        position=common_pb2.RunPosition(run_id="bench"),
        evaluation_id="e0",
        slice=JUMP,
        accuracy=proportion(3, 60),
        confirmation=proportion(1, 30),
        threshold=0.8,
        example_ids=[f"search-{n}" for n in range(20)],
        weak_slice_count=1,
    )


class Gateway:
    """The gateway's process; started again it has the same port and stores."""

    def __init__(self, folder: Path, *, bus: str, port: int, grpc_port: int) -> None:
        self.url, self._folder = f"http://127.0.0.1:{port}", folder
        self.grpc_address = f"127.0.0.1:{grpc_port}"
        self.token_file = folder / "token"
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("MENDLOOP_")} | {
            "MENDLOOP_BUS": bus,
            "MENDLOOP_ARTIFACTS_URI": f"file://{folder / 'artifacts'}",
            "MENDLOOP_SEALED_ARTIFACTS_URI": f"file://{folder / 'sealed'}",
            "MENDLOOP_DATABASE_URL": f"sqlite:///{folder / 'gateway.db'}",
            "MENDLOOP_TOKEN_FILE": str(self.token_file),
            "MENDLOOP_PORT": str(port),
            "MENDLOOP_GRPC_PORT": str(grpc_port),
            "MENDLOOP_CREDENTIAL_RATE": "10000",  # all subscribers show one token, from one address
            "MENDLOOP_ADDRESS_RATE": "10000",
            "MENDLOOP_WEBHOOK_ALLOW_HTTP": "true",
            "MENDLOOP_WEBHOOK_ALLOWED_NETWORKS": '["127.0.0.0/8"]',
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def token(self) -> str:
        """What a local gateway wrote; empty where it wants none."""
        return self.token_file.read_text().strip() if self.token_file.exists() else ""

    def start(self) -> float:
        """Start, and wait until it is ready; seconds."""
        started = time.monotonic()
        with (self._folder / "gateway.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mendloop.gateway"], env=self._environment, cwd=self._folder, stderr=log
            )
        while time.monotonic() < started + READY_S:
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return time.monotonic() - started
            except httpx.TransportError:
                time.sleep(0.05)
        raise TimeoutError(f"the gateway is not ready after {READY_S:.0f} s; see {self._folder / 'gateway.log'}")

    def stop(self) -> None:
        """SIGTERM, and wait."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(timeout=60)
            self._process = None

    def kill(self) -> None:
        """SIGKILL, and wait."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=60)
            self._process = None


class Clients:
    """The other side's process."""

    def __init__(self, gateway: Gateway, *, streams: int, grpc: int) -> None:
        command = [sys.executable, str(Path(__file__).with_name("gateway_clients.py"))]
        self._process = subprocess.Popen(
            [*command, gateway.url, gateway.token, str(streams), gateway.grpc_address, str(grpc)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._line("ready"))

    def outage(self, seconds: float) -> Iterator[None]:
        """Half of the streams leave and the receiver refuses; the body runs meanwhile."""
        self._say(f"outage {seconds}")
        self._line("out")
        yield
        self._line("back")

    def stop(self) -> dict[str, list[tuple[str, float]]]:
        """End, and get the receipts."""
        self._say("stop")
        assert self._process.stdout is not None
        receipts: dict[str, list[tuple[str, float]]] = json.loads(self._process.stdout.readline())
        self._process.wait(timeout=30)
        return receipts

    def kill(self) -> None:
        """End, whatever it does."""
        self._process.kill()
        self._process.wait()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _line(self, word: str) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().split()
        assert line[:1] == [word], f"expected {word}, got {line}"
        return line[-1]


@dataclass(frozen=True, slots=True)
class Load:
    """How many subscribers of each kind, and what is published."""

    streams: int
    grpc: int
    hooks: int
    rate: float
    seconds: float
    burst: int


def _measure(bus_name: str, url: str, folder: Path, load: Load) -> list[Row]:
    bus, rate = open_bus(url, options={}), load.rate
    bus.ensure_topics(all_topics())
    port, grpc_port = _free_ports(2)
    gateway, publisher = Gateway(folder, bus=url, port=port, grpc_port=grpc_port), Publisher(bus)
    with ExitStack() as stack:
        stack.callback(bus.close)
        stack.callback(gateway.stop)
        gateway.start()
        clients = Clients(gateway, streams=load.streams, grpc=load.grpc)
        stack.callback(clients.kill)
        made = _make_hooks(gateway, port=clients.port, count=load.hooks)
        publisher.publish("steady", int(rate * load.seconds), every_s=1 / rate)
        _drain(gateway, made, publisher)
        publisher.publish("burst", load.burst)
        _drain(gateway, made, publisher)
        publisher.publish("before", 10, every_s=1 / rate)
        gateway.stop()
        publisher.publish("down", 10)
        gateway.start()
        publisher.publish("after", 10, every_s=1 / rate)
        for _ in clients.outage(5.0):
            publisher.publish("outage", 10, every_s=0.4)
        publisher.publish("back", 10, every_s=1 / rate)
        _drain(gateway, made, publisher)
        publisher.publish(KILLED, 10)  # one transaction, so that many deliveries are at work
        time.sleep(KILL_AFTER_S)
        gateway.kill()
        publisher.publish("dead", 10)
        gateway.start()
        publisher.publish("risen", 10, every_s=1 / rate)
        _drain(gateway, made, publisher)
        time.sleep(3.0)  # what is doubled arrives late
        receipts = clients.stop()
    kinds = {
        "streams": [f"stream-{n}" for n in range(load.streams)],
        "grpc": [f"grpc-{n}" for n in range(load.grpc)],
        "webhooks": [f"/hook/{n}" for n in range(load.hooks)],
    }
    return [_row(bus_name, kind, names, receipts, publisher) for kind, names in kinds.items() if names]


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _make_hooks(gateway: Gateway, *, port: int, count: int) -> list[str]:
    made = []
    with httpx.Client(base_url=gateway.url, headers=_headers(gateway), timeout=30) as client:
        for n in range(count):
            body = {"url": f"http://127.0.0.1:{port}/hook/{n}", "filter": {"types": ["EvalFailed"]}}
            answer = client.post("/v1/webhooks", json=body)
            answer.raise_for_status()
            made.append(answer.json()["webhook_id"])
        _all_leased(client, made)
    return made


def _all_leased(client: httpx.Client, made: list[str]) -> None:
    """A test event each, so that connections and rounds are there before time is taken."""
    for webhook_id in made:
        client.post(f"/v1/webhooks/{webhook_id}/test")


def _headers(gateway: Gateway) -> dict[str, str]:
    return {"authorization": f"Bearer {gateway.token}"} if gateway.token else {}


def _drain(gateway: Gateway, made: list[str], publisher: Publisher) -> None:
    """Wait until each hook has delivered what was published; streams are done by then or shortly after."""
    deadline, wanted = time.monotonic() + DRAIN_S, len(publisher.committed)
    with httpx.Client(base_url=gateway.url, headers=_headers(gateway), timeout=30) as client:
        for webhook_id in made:
            while client.get(f"/v1/webhooks/{webhook_id}").json()["delivered_count"] < wanted:
                if time.monotonic() > deadline:
                    return  # the figures say what is lost
                time.sleep(0.2)
    time.sleep(1.0)


def _row(
    bus_name: str,
    kind: str,
    names: list[str],
    receipts: Mapping[str, list[tuple[str, float]]],
    publisher: Publisher,
) -> Row:
    steady, burst, killed = (set(publisher.phases[phase]) for phase in ("steady", "burst", KILLED))
    taken = [(name, i, at) for name in names for i, at in receipts.get(name, []) if not i.startswith("test_")]
    counts = Counter((name, i) for name, i, _ in taken)
    waits = sorted(max(0.0, at - publisher.committed[i]) for _, i, at in taken if i in steady)
    ends = [at for _, i, at in taken if i in burst]
    start = publisher.committed[publisher.phases["burst"][0]]
    wanted = len(names) * len(publisher.committed)
    return Row(
        bus_name,
        kind,
        len(names),
        len(publisher.committed),
        statistics.median(waits),
        waits[min(len(waits) - 1, int(0.95 * len(waits)))],
        waits[-1],
        len(burst),
        len(ends) / (max(ends) - start),
        wanted - len(counts),
        sum(count - 1 for (_, i), count in counts.items() if i not in killed),
        sum(count - 1 for (_, i), count in counts.items() if i in killed),
    )


@contextmanager
def _broker(name: str, folder: Path) -> Iterator[str]:
    if name == "local":
        yield f"local:{folder / 'bus.db'}"
        return
    with running_broker(cache=Path(os.environ.get("MENDLOOP_CACHE") or DEFAULT_CACHE)) as bootstrap:
        yield f"kafka:{bootstrap}"


def main(
    buses: Annotated[str, typer.Option(help="local, kafka or both, by comma.")] = "local,kafka",
    streams: Annotated[int, typer.Option(help="Event streams (server-sent events) at a time.")] = 200,
    grpc: Annotated[int, typer.Option(help="gRPC streams at a time.")] = 20,
    hooks: Annotated[int, typer.Option(help="Webhooks.")] = 50,
    rate: Annotated[float, typer.Option(help="Events a second in the steady phase.")] = 2.0,
    seconds: Annotated[float, typer.Option(help="Length of the steady phase.")] = 30.0,
    burst: Annotated[int, typer.Option(help="Events of the burst, committed together.")] = 100,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Measure, print the table, and write JSON."""
    rows: list[Row] = []
    load = Load(streams, grpc, hooks, rate, seconds, burst)
    for name in buses.split(","):
        with tempfile.TemporaryDirectory(prefix="mend-gateway-") as text, _broker(name, Path(text)) as url:
            rows += _measure(name, url, Path(text), load)
    table = Table(*Row.__dataclass_fields__, box=None)
    for row in rows:
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in asdict(row).values()))
    Console(width=160).print(table)
    document = {"machine": platform.platform(), "load": os.getloadavg()[0], "rows": [asdict(row) for row in rows]}
    text = json.dumps(document, indent=1)
    if out is not None:
        out.write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    typer.run(main)
