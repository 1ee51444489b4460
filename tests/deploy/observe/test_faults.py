"""Faults of services that are really caused: the alert reaches a real Alertmanager and goes by the runbook's steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chat_server import ChatServer, Reply
from receivers import receiving
from run_events import position
from runbook import run
from waiting import wait_until

from mendloop.bus.local import LocalBus
from mendloop.core.errors import Retryable
from mendloop.core.events import Envelope, envelope_for
from mendloop.core.telemetry import Telemetry
from mendloop.models.chat import ChatEndpoint
from mendloop.v1 import diagnosis_pb2, intervention_pb2, loop_pb2

sys.path.insert(0, str(Path(__file__).parent))
from fleet import DEADLINE_S, RULES, Fleet, watched_fleet

pytestmark = [pytest.mark.deploy, pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]
DISK_MB = 8
WEBHOOKS = {"MENDLOOP_WEBHOOK_ALLOW_HTTP": "true", "MENDLOOP_WEBHOOK_ALLOWED_NETWORKS": '["127.0.0.0/8"]'}
LATE_AFTER_S = 5.0
WEBHOOK = "runbooks/webhook-disabled.md"
CURL = """curl --fail-with-body -sS -H "Authorization: Bearer $(cat .mendloop/gateway-token)\""""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Gateway and controller over a bus file, watched with rules that run faster."""
    with watched_fleet(tmp_path_factory.mktemp("deployment")) as fleet:
        fleet.start("gateway", environment=WEBHOOKS)
        fleet.start("controller")
        yield fleet


def bus_of(fleet: Fleet) -> LocalBus:
    """The bus file."""
    return LocalBus(fleet.deployment.home / "bus.db")


def cancelled(name: str) -> Envelope:
    """An event that the controller handles and that changes nothing."""
    message = loop_pb2.LoopCancelled(position=position(name), reason="test")
    return envelope_for(message, event_id=name, source="test", key=name)


def test_a_poisoned_event_becomes_a_dead_letter_that_pages_and_that_mend_shows(fleet: Fleet) -> None:
    good = cancelled("poisoned")
    bus_of(fleet).publish([Envelope(good.topic, good.key, b"\xff\xff no protobuf", good.headers)])
    alert = fleet.wait_firing("MendloopDeadLetters", service="controller")
    assert alert["labels"]["severity"] == "critical"
    assert (RULES.parents[4] / alert["annotations"]["runbook_url"]).exists()
    assert "InvalidEvent" in fleet.run(
        "runbooks/dead-letters.md", "mend dlq list"
    )  # the runbook: unreadable bytes are not replayed
    fleet.wait_resolved("MendloopDeadLetters", service="controller")


def test_a_bus_that_cannot_be_written_pages_until_the_lock_is_gone(fleet: Fleet) -> None:
    path = fleet.deployment.home / "bus.db"
    code = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "db.execute('BEGIN EXCLUSIVE'); print('held', flush=True); sys.stdin.read()"
    )
    fleet.hold("controller")  # so that the event is still to be taken when the lock is there
    bus_of(fleet).publish([cancelled("waits")])
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    fleet.go_on("controller")
    try:
        fleet.wait_firing("MendloopBusUnreachable", service="controller")
    finally:
        holder.kill()  # the runbook: end the process that holds the lock
        holder.wait()
    fleet.wait_resolved("MendloopBusUnreachable", service="controller")


def test_a_queue_that_grows_warns_until_a_second_replica_works_it_off(fleet: Fleet) -> None:
    bus, numbers = bus_of(fleet), iter(range(10_000))
    fleet.hold("controller")

    def grows() -> bool:
        bus.publish([cancelled(f"more{next(numbers)}") for _ in range(2)])
        return fleet.is_firing("MendloopLagGrows", consumer="controller")

    wait_until(grows, deadline_s=DEADLINE_S, every_s=0.5)
    assert (fleet.watched.value('mendloop_queue_lag{consumer="controller"}') or 0) > 20
    fleet.start("controller", index=1)  # what `mend up --replicas controller=2` starts beside the first
    fleet.wait_resolved("MendloopLagGrows", consumer="controller")
    wait_until(lambda: fleet.watched.value('mendloop_queue_lag{consumer="controller"}') == 0, deadline_s=DEADLINE_S)
    fleet.go_on("controller")
    fleet.end("controller", index=1)


def test_a_controller_that_stalls_burns_the_latency_budget_until_a_second_one_is_there(fleet: Fleet) -> None:
    bus, numbers = bus_of(fleet), iter(range(10_000))
    lag, age = (f'mendloop_{name}{{consumer="controller"}}' for name in ("queue_lag", "oldest_event_seconds"))

    def is_late(name: str) -> bool:
        return fleet.is_firing(name, severity="critical")

    def burns() -> bool:
        fleet.hold("controller")
        bus.publish([cancelled(f"late{next(numbers)}") for _ in range(5)])
        wait_until(lambda: (fleet.watched.value(age) or 0) > LATE_AFTER_S, deadline_s=DEADLINE_S, every_s=0.5)
        fleet.go_on("controller")
        try:
            wait_until(lambda: is_late("MendloopEventLatencyBudgetBurnsFast"), deadline_s=10, every_s=0.2)
        except AssertionError:
            return False  # the window was shorter than a look of a busy Prometheus: stall again
        return True

    wait_until(burns, deadline_s=DEADLINE_S)
    fleet.start("controller", index=1)
    fleet.hold("controller")  # it stalls again, and nobody notices
    bus.publish([cancelled(f"soon{n}") for n in range(5)])
    wait_until(lambda: fleet.watched.value(lag) == 0, deadline_s=DEADLINE_S, every_s=0.5)
    fleet.wait_resolved("MendloopEventLatencyBudgetBurnsFast")
    fleet.go_on("controller")
    fleet.end("controller", index=1)


def test_a_webhook_whose_address_is_gone_warns_until_it_is_turned_on_again(fleet: Fleet) -> None:
    port = fleet.deployment.port_file("gateway-0").read_text()
    with receiving() as receiver:
        receiver.answer = lambda post: (410, {})
        body = json.dumps({"url": receiver.url})
        create = f"{CURL} -H 'content-type: application/json' -d '{body}' http://127.0.0.1:{port}/v1/webhooks"
        webhook_id = json.loads(run(create, folder=fleet.deployment.home.parent))["webhook_id"]
        bus_of(fleet).publish([cancelled("told")])
        fleet.wait_firing("MendloopWebhookDisabled")
        assert "410 (gone)" in fleet.run(WEBHOOK, f"{CURL} http://127.0.0.1:PORT/v1/webhooks", PORT=port)
        assert receiver.ids() == ["told"]
        receiver.answer = lambda post: (204, {})
        enable = f"{CURL} -X POST http://127.0.0.1:PORT/v1/webhooks/ID/enable"
        fleet.run(WEBHOOK, enable, PORT=port, ID=webhook_id)
        fleet.wait_resolved("MendloopWebhookDisabled")
        wait_until(lambda: receiver.ids() == ["told", "told"], deadline_s=DEADLINE_S)  # it goes on where it stopped


def test_a_stopped_consumer_pages_and_starting_it_works_the_queue_off(fleet: Fleet) -> None:
    bus = bus_of(fleet)

    def fill(start: int) -> None:
        for number in range(start, start + 15):
            plan = intervention_pb2.InterventionPlanned(
                position=position(f"run{number}", 1), kind=diagnosis_pb2.INTERVENTION_KIND_TRAINING_FIX
            )
            bus.publish([envelope_for(plan, event_id=f"plan{number}", source="test", key=f"run{number}")])

    fill(0)
    fleet.wait_firing("MendloopConsumerGone", consumer="data-generator")
    assert fleet.watched.value('mendloop_queue_lag{consumer="data-generator"}') == 15
    fleet.start("data-generator")
    fleet.wait_resolved("MendloopConsumerGone", consumer="data-generator")
    assert fleet.is_firing("MendloopConsumerGone", consumer="trainer")  # nobody started it


def test_a_teacher_that_answers_errors_warns_until_it_is_back(fleet: Fleet) -> None:
    telemetry = Telemetry("data-generator")
    server = telemetry.serve(host="127.0.0.1", port=0)
    port_file = fleet.deployment.port_file("teaching-0")
    port_file.parent.mkdir(parents=True, exist_ok=True)
    port_file.write_text(str(server.server_address[1]))
    with ChatServer(lambda prompt, request: Reply(status=503, raw=b"{}")) as teacher:
        endpoint = ChatEndpoint(
            teacher.url,
            "m",
            role="teacher",
            on_result=lambda result: telemetry.add("mendloop_teacher_calls", result=result),
        )

        def firing() -> bool:
            with pytest.raises(Retryable):
                endpoint.say("write an example")
            return fleet.is_firing("MendloopTeacherFails")

        def resolved() -> bool:
            endpoint.say("write an example")
            return not fleet.is_firing("MendloopTeacherFails")

        wait_until(firing, deadline_s=DEADLINE_S, every_s=0.3)
        teacher.answer = lambda prompt, request: "here it is"
        wait_until(resolved, deadline_s=DEADLINE_S, every_s=0.3)
    server.shutdown()
    port_file.unlink()


def test_a_disk_that_is_nearly_full_pages_until_there_is_room(fleet: Fleet, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "mendloop-test", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small tmpfs: run as root with CAP_SYS_ADMIN")
    try:
        fleet.end("controller")
        fleet.start("controller", environment={"MENDLOOP_WORK_DIR": str(disk)})
        labels = {"service": "controller", "place": "work"}
        (disk / "grown").write_bytes(b"x" * int(DISK_MB * 0.95 * 2**20))
        fleet.wait_firing("MendloopDiskFills", **labels)
        (disk / "grown").unlink()
        fleet.wait_resolved("MendloopDiskFills", **labels)
    finally:
        fleet.end("controller")
        subprocess.run(["umount", "-l", str(disk)], check=False)
