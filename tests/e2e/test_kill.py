"""kill -9 of every service in the middle of its work changes no decision and trains nothing twice."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from demo_run import Demo
from rich.console import Console

from mendloop.artifacts.store import ArtifactStore
from mendloop.bus.receipts import StoredReceipts
from mendloop.cli.demo import SCENARIOS, ask
from mendloop.cli.deployment import Deployment, deployment_at
from mendloop.cli.supervisor import Supervisor
from mendloop.core.contracts import CONTROLLER, DATA_GENERATOR, DIAGNOSTICIAN, EVALUATOR, GATEWAY, TRAINER, decode
from mendloop.report.summary import summarize
from mendloop.runs.log import RunLog
from mendloop.runs.model import RunView
from mendloop.runs.stages import stage_of
from mendloop.v1 import checkpoint_pb2

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
DEADLINE_S = 900
WORKS_IN = {
    TRAINER: {"base training", "training"},
    EVALUATOR: {"evaluation"},
    DIAGNOSTICIAN: {"diagnosis"},
    DATA_GENERATOR: {"generation"},
    CONTROLLER: {"planning", "gates", "diagnosis"},
    GATEWAY: {"evaluation"},
}
"""Stages in which a service is killed."""


class Killer:
    """Kills each service once, a random while after a run came into one of its stages."""

    def __init__(self, *, seed: int) -> None:
        self._rng = random.Random(seed)
        self._due: dict[str, float] = {}
        self.killed: list[tuple[str, str]] = []

    def look(self, views: list[RunView], pids: dict[str, int]) -> None:
        """Kill what is due."""
        working = {stage_of(view) for view in views}
        done = {service for service, _ in self.killed}
        for service in WORKS_IN.keys() - done:
            if working & WORKS_IN[service]:
                self._due.setdefault(service, time.monotonic() + self._rng.uniform(0, self._patience(service)))
            if time.monotonic() >= self._due.get(service, float("inf")) and f"{service}-0" in pids:
                os.kill(pids[f"{service}-0"], signal.SIGKILL)
                self.killed.append((service, "+".join(sorted(working))))

    def _patience(self, service: str) -> float:
        return 6.0 if service in (TRAINER, EVALUATOR, DIAGNOSTICIAN) else 0.2


def _run_with_kills(deployment: Deployment, *, seed: int) -> tuple[dict[str, RunView], list[tuple[str, str]]]:
    killer = Killer(seed=seed)
    with Supervisor(deployment) as supervisor:
        for _ in supervisor.wait_ready(timeout_s=180):
            pass
        for scenario in SCENARIOS:
            ask(scenario, deployment)
        log = RunLog(deployment.bus(), store=deployment.store())
        deadline = time.monotonic() + DEADLINE_S
        while True:
            log.refresh()
            views = [view for s in SCENARIOS if (view := log.view(s.run_id)) is not None]
            if len(views) == len(SCENARIOS) and all(view.is_finished for view in views):
                return {view.run_id: view for view in views}, killer.killed
            assert time.monotonic() < deadline, f"killed {killer.killed}; stuck in {[stage_of(v) for v in views]}"
            killer.look(views, supervisor.pids())
            supervisor.tend()
            time.sleep(0.05)


def test_killed_services_change_no_decision_and_train_nothing_twice(demo: Demo, tmp_path: Path) -> None:
    seed = int(os.environ.get("KILL_SEED", "7"))
    deployment = deployment_at(tmp_path / "home", bus_url="local", threads=1)
    views, killed = _run_with_kills(deployment, seed=seed)
    Console().print(f"seed {seed}, killed: {killed}")
    assert {service for service, _ in killed} == set(WORKS_IN)
    store = deployment.store()
    for run_id, view in views.items():
        ended = Demo(tmp_path, "", {run_id: summarize(view, store=store)})
        assert ended.decision(run_id) == demo.decision(run_id)
        assert ended.scenarios[run_id]["checkpoint"] == demo.scenarios[run_id]["checkpoint"]
        assert not view.dead_letters
    _assert_trained_once(store)


def _assert_trained_once(store: ArtifactStore) -> None:
    """By receipts: two bases (one of them trained), two candidates; each of the three jobs has one result."""
    receipts = StoredReceipts(store)
    outputs = [
        envelope
        for event_id in store.doc_names(f"receipts/{TRAINER}")
        for envelope in receipts.find(TRAINER, event_id) or ()
    ]
    made = [decode(envelope.event_type, envelope.value) for envelope in outputs]
    ready = [message for message in made if isinstance(message, checkpoint_pb2.CheckpointReady)]
    reports = [message.training_report.sha256 for message in ready if message.training_report.sha256]
    assert len(ready) == len(made) == 4
    assert len(reports) == len(set(reports)) == len(store.doc_names("jobs")) == 3
