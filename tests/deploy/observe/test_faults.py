"""Faults that are really caused: the alert reaches a real Alertmanager and goes when the runbook's steps were taken."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from chat_server import ChatServer, Reply
from controller_world import BETTER, WEAK, MemoryRuns, World
from monitoring import monitoring
from other_services import Others, working
from run_events import position
from waiting import wait_until

from mendloop.bus.local import LocalBus
from mendloop.cli.deployment import deployment_at
from mendloop.controller.handlers import handlers
from mendloop.core.contracts import CONTROLLER, all_topics
from mendloop.core.errors import Retryable
from mendloop.core.events import Envelope, envelope_for
from mendloop.core.telemetry import Telemetry
from mendloop.models.chat import ChatEndpoint
from mendloop.v1 import diagnosis_pb2, intervention_pb2, loop_pb2

sys.path.insert(0, str(Path(__file__).parent))
from fleet import Fleet, write_rules

pytestmark = [pytest.mark.deploy, pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]
RULES = Path(__file__).resolve().parents[3] / "charts" / "mendloop" / "files" / "alerts" / "mendloop.yaml"
DISK_MB = 8


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Gateway and controller over a bus file, watched with rules that run faster."""
    home = tmp_path_factory.mktemp("home")
    deployment = deployment_at(home, bus_url=f"local:{home / 'bus.db'}")
    LocalBus(home / "bus.db").ensure_topics(all_topics())
    folder = tmp_path_factory.mktemp("monitoring")
    rules = write_rules(RULES, folder / "rules.yaml")
    with monitoring(folder, port_files=lambda: (home / "ports").glob("*"), rules=rules) as watched:
        fleet = Fleet(deployment, watched)
        try:
            fleet.start("gateway")
            fleet.start("controller")
            yield fleet
        finally:
            fleet.stop()


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
    assert "InvalidEvent" in fleet.mend("dlq", "list")  # the runbook: unreadable bytes are not replayed
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


def test_gates_that_reject_every_candidate_warn_until_one_is_promoted(fleet: Fleet, tmp_path: Path) -> None:
    fleet.end("controller")  # the same handlers and gates work in this process: its outcomes need no model
    bus = bus_of(fleet)
    names = {**{f"useless-{n}": (WEAK, WEAK) for n in range(4)}, "useful": (WEAK, BETTER)}
    runs, clock = MemoryRuns(), time.time
    worlds = {name: World(tmp_path / "store", runs=runs, run_id=name, rounds=1, clock=clock) for name in names}
    *_, last = worlds.values()
    for world in worlds.values():
        world.outcomes.tables = last.outcomes.tables
    tables = {**Others(worlds, right=names).table(), CONTROLLER: handlers(last.ports)}

    def ask(name: str) -> None:
        request = worlds[name].requested()
        bus.publish([envelope_for(request, event_id=f"request-{name}", source="gateway", key=name)])

    with working(bus, tmp_path, tables):
        for name in names:
            if name != "useful":
                ask(name)
        fleet.wait_firing("MendloopGatesRejectAll")
        ask("useful")
        fleet.wait_resolved("MendloopGatesRejectAll")
    assert fleet.watched.value('mendloop_decisions_total{decision="rejected"}') == 4
    assert fleet.watched.value('mendloop_decisions_total{decision="promoted"}') == 1


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

        wait_until(firing, deadline_s=180, every_s=0.3)
        teacher.answer = lambda prompt, request: "here it is"
        wait_until(resolved, deadline_s=180, every_s=0.3)
    server.shutdown()
    port_file.unlink()


def test_a_disk_that_is_nearly_full_pages_until_there_is_room(fleet: Fleet, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "mendloop-test", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small tmpfs: run as root with CAP_SYS_ADMIN")
    try:
        if "controller" in fleet.processes:
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
