"""A broker that is killed and a run that stands still, on a real Kafka: alerts fire and go as the runbooks say."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from os import kill
from pathlib import Path

import pytest
from controller_world import World
from kafka_broker import require_java
from ports import free_port
from run_events import position
from runbook import command, environment
from waiting import wait_until

from mendloop.core.contracts import CONTROLLER, consumed_by
from mendloop.core.errors import Retryable
from mendloop.core.events import Envelope, envelope_for
from mendloop.v1 import loop_pb2

sys.path.insert(0, str(Path(__file__).parent))
from fleet import DEADLINE_S, Fleet, watched_fleet

pytestmark = [pytest.mark.deploy, pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]
START = "python -m mendloop.bus.broker --port PORT --data-dir FOLDER"
BUS, STUCK = "runbooks/bus-unreachable.md", "runbooks/run-stuck.md"
RUN = "stuck"


@dataclass(slots=True)
class Broker:
    """A broker of one machine, started by the runbook's command."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        """Start it, on the log that it has."""
        text = command(BUS, START, PORT=str(self.port), FOLDER=str(self.folder))
        self.process = subprocess.Popen(
            text.split(), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        assert f"MENDLOOP_BUS=kafka:127.0.0.1:{self.port}" in line, line

    def kill(self) -> None:
        """SIGKILL to the Java process, as the kernel's out-of-memory killer sends it."""
        assert self.process is not None
        kill(java_below(self.process.pid), signal.SIGKILL)
        self.process.wait(timeout=60)
        assert self.process.returncode == 1

    def stop(self) -> None:
        """End it."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=60)


def java_below(pid: int) -> int:
    """The Java process among those that a process started, directly or not."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if "kafka.Kafka" in Path(f"/proc/{child}/cmdline").read_text():
            inner = Path(f"/proc/{child}/task/{child}/children").read_text().split()
            return int(inner[0] if inner else child)
    raise AssertionError(f"process {pid} started no broker")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker on a free port, whose log outlives it."""
    require_java()
    broker = Broker(tmp_path_factory.mktemp("kafka"), free_port())
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


@pytest.fixture(scope="module")
def fleet(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Gateway, controller and two workers on Kafka; the trainer is frozen while a run waits for it."""
    with watched_fleet(tmp_path_factory.mktemp("deployment"), bus_url=f"kafka:127.0.0.1:{broker.port}") as fleet:
        fleet.start("gateway", "controller", "data-generator", "trainer")
        fleet.hold("trainer")
        request = World(fleet.deployment.home / "artifacts", run_id=RUN).requested()
        publish(fleet, envelope_for(request, event_id=f"request-{RUN}", source="test", key=RUN, subject=RUN))
        yield fleet


def publish(fleet: Fleet, envelope: Envelope) -> None:
    """Publish, as somebody who knows when the broker is there."""
    bus = fleet.deployment.bus()
    bus.publish([envelope])
    bus.close()


def cancelled(name: str) -> Envelope:
    """An event that the controller handles and that changes nothing."""
    message = loop_pb2.LoopCancelled(position=position(name), reason="test")
    return envelope_for(message, event_id=name, source="test", key=name)


def is_worked_off(fleet: Fleet) -> bool:
    """Whether the controller has completed every event that is committed."""
    bus = fleet.deployment.bus()
    try:
        return bus.backlog(CONTROLLER, consumed_by(CONTROLLER)).event_count == 0
    except Retryable:
        return False
    finally:
        bus.close()


def handled(fleet: Fleet) -> float:
    """Cancellations that the controller has handled."""
    query = 'sum(mendloop_events_handled_total{service="controller",type="mendloop.v1.LoopCancelled",result="ok"})'
    return fleet.watched.value(query) or 0.0


def test_a_killed_broker_pages_for_every_service_and_loses_nothing(fleet: Fleet, broker: Broker) -> None:
    publish(fleet, cancelled("handled"))
    wait_until(lambda: handled(fleet) == 1, deadline_s=DEADLINE_S, every_s=0.5)
    fleet.hold("controller")  # so that an event waits in the log when the broker dies
    publish(fleet, cancelled("waits"))
    broker.kill()
    fleet.go_on("controller")
    for service in ("gateway", "controller", "data-generator"):
        alert = fleet.wait_firing("MendloopBusUnreachable", service=service)
        assert alert["labels"]["severity"] == "critical"
    assert "event bus" in fleet.run(BUS, "mend doctor", fails=True)
    assert "the bus is away" in fleet.deployment.log_file("controller-0").read_text()

    broker.start()  # the runbook: on the disks that it had
    for service in ("gateway", "controller", "data-generator"):
        fleet.wait_resolved("MendloopBusUnreachable", service=service)
    wait_until(lambda: handled(fleet) == 2, deadline_s=DEADLINE_S, every_s=0.5)
    publish(fleet, cancelled("after"))
    wait_until(lambda: handled(fleet) == 3, deadline_s=DEADLINE_S, every_s=0.5)
    wait_until(lambda: is_worked_off(fleet), deadline_s=DEADLINE_S, every_s=0.5)
    log = fleet.deployment.bus().read(consumed_by(CONTROLLER), limit=100)
    ids = [delivery.envelope.event_id for delivery in log]
    assert sorted(i for i in ids if i in {"handled", "waits", "after"}) == ["after", "handled", "waits"]


def test_a_run_whose_trainer_is_frozen_warns_until_the_runbook_ends_it_and_another_goes_on(fleet: Fleet) -> None:
    alert = fleet.wait_firing("MendloopRunStuck", stage="requested")
    assert RUN in fleet.run(STUCK, "mend status")
    assert fleet.watched.value('mendloop_queue_lag{consumer="trainer"}') == 1
    assert "old" in alert["annotations"]["description"]
    fleet.run(STUCK, "kill -9 PID", PID=str(fleet.pid("trainer")))
    fleet.buried("trainer")
    fleet.start("trainer")
    fleet.wait_resolved("MendloopRunStuck", stage="requested")
    assert "evaluating" in fleet.run(STUCK, "mend status")

    fleet.wait_firing("MendloopRunStuck", stage="evaluating")  # there is no evaluator
    fleet.run(STUCK, "mend cancel RUN", RUN=RUN)
    fleet.wait_resolved("MendloopRunStuck", stage="evaluating")
