"""Faults of the loop itself: gates that reject all, a promotion that was none, late evaluations, abstentions.

Services work in this process, over outcomes that the test says; gateway, Prometheus and Alertmanager are real, and the
controller's own handlers and gates judge, the diagnostician's own probes and judge diagnose.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from builders import event, recipe, run_spec
from controller_world import BETTER, WEAK, MemoryRuns, World
from diagnosis_cases import GREEN, TEMPLATE, ToyModel, ToyTask, all_items, all_probes, corpus_of, outcomes_of, wrong_on
from other_services import Others, working

from mendloop.artifacts.store import ArtifactStore
from mendloop.artifacts.tables import put_rows
from mendloop.controller.handlers import handlers
from mendloop.core import run_spec as specification
from mendloop.core.contracts import CONTROLLER
from mendloop.core.events import envelope_for
from mendloop.core.records import Outcome
from mendloop.core.telemetry import Telemetry
from mendloop.core.wire import artifact_ref, slice_message
from mendloop.diagnostician.adapters.checkpoints import StoredCheckpoints
from mendloop.diagnostician.handlers import Ports, on_eval_failed
from mendloop.models.checkpoint import save_checkpoint
from mendloop.v1 import checkpoint_pb2, common_pb2, evaluation_pb2

sys.path.insert(0, str(Path(__file__).parent))
from fleet import Fleet, watched_fleet

pytestmark = [pytest.mark.deploy, pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]
Right = Mapping[str, Sequence[Mapping[str, int]]]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A gateway over a bus file, watched with rules that run faster."""
    with watched_fleet(tmp_path_factory.mktemp("deployment")) as fleet:
        fleet.start("gateway")
        yield fleet


class Loops:
    """Runs whose services all work in this process. right: by run, the right items of the base and after each round."""

    def __init__(self, fleet: Fleet, folder: Path, *, right: Right, kinds: Mapping[str, type[World]]) -> None:
        self.bus = fleet.deployment.bus()
        runs, store = MemoryRuns(), fleet.deployment.home / "artifacts"  # where `mend` reads too
        self.worlds = {
            name: kinds.get(name, World)(store, runs=runs, run_id=name, rounds=1, clock=time.time, seed=seed)
            for seed, name in enumerate(right)
        }
        *_, self._last = self.worlds.values()
        for world in self.worlds.values():
            world.outcomes.tables = self._last.outcomes.tables
        self.tables: dict[str, Any] = {
            **Others(self.worlds, right=right).table(),
            CONTROLLER: handlers(self._last.ports),
        }

    def ask(self, name: str) -> None:
        """Ask for a run."""
        request = self.worlds[name].requested()
        self.bus.publish([envelope_for(request, event_id=f"request-{name}", source="gateway", key=name, subject=name)])

    def ready_since(self, name: str, *, hours: float) -> None:
        """Say that the base checkpoint of a run has been ready for so long."""
        ready, then = self.worlds[name].base_ready(), datetime.now(UTC) - timedelta(hours=hours)
        self.bus.publish([envelope_for(ready, event_id=f"ready-{name}", source="trainer", key=name, time=then)])


@contextmanager
def loops(
    fleet: Fleet, folder: Path, *, right: Right, kinds: Mapping[str, type[World]] | None = None
) -> Iterator[Loops]:
    """The services of these runs at work."""
    made = Loops(fleet, folder, right=right, kinds=kinds or {})
    with working(made.bus, folder, made.tables):  # type: ignore[arg-type]  # a bus file, as the fixture says
        yield made


def test_gates_that_reject_every_candidate_warn_until_one_is_promoted(fleet: Fleet, tmp_path: Path) -> None:
    useless = [f"useless-{n}" for n in range(4)]
    with loops(fleet, tmp_path, right={**dict.fromkeys(useless, (WEAK, WEAK)), "useful": (WEAK, BETTER)}) as runs:
        for name in useless:
            runs.ask(name)
        fleet.wait_firing("MendloopGatesRejectAll")
        shown = fleet.run("runbooks/gates-reject-all.md", "mend report RUN", RUN="useless-0")
        assert "useless-0" in shown
        runs.ask("useful")
        fleet.wait_resolved("MendloopGatesRejectAll")
    assert fleet.watched.value('mendloop_decisions_total{decision="rejected"}') == 4
    assert fleet.watched.value('mendloop_decisions_total{decision="promoted"}') == 1


def test_a_promotion_that_measures_worse_later_pages_until_it_is_rolled_back(fleet: Fleet, tmp_path: Path) -> None:
    promoted: list[common_pb2.ArtifactRef] = []

    class FromThePromoted(World):
        def base_ready(self, *, report: common_pb2.ArtifactRef | None = None) -> checkpoint_pb2.CheckpointReady:
            ready = super().base_ready(report=report)
            ready.checkpoint.CopyFrom(promoted[0])
            return ready

    right = {"lucky": (WEAK, BETTER), "again": (WEAK, WEAK)}
    with loops(fleet, tmp_path, right=right, kinds={"again": FromThePromoted}) as runs:
        before = fleet.watched.value('mendloop_decisions_total{decision="promoted"}') or 0
        runs.ask("lucky")
        fleet.wait_value('mendloop_decisions_total{decision="promoted"}', before + 1)
        topic = "mendloop.checkpoint-promoted.v1"
        for delivery in runs.bus.read([topic], limit=100):
            message = checkpoint_pb2.CheckpointPromoted.FromString(delivery.envelope.value)
            if message.position.run_id == "lucky":
                promoted.append(message.checkpoint)
        runs.ask("again")
        alert = fleet.wait_firing("MendloopPromotedCheckpointRegressed")
        assert alert["labels"]["severity"] == "critical"
        fleet.run("runbooks/promoted-regressed.md", "mend rollback RUN", RUN="lucky")
        fleet.wait_resolved("MendloopPromotedCheckpointRegressed")


def test_evaluations_that_come_late_page_until_they_come_in_time(fleet: Fleet, tmp_path: Path) -> None:
    late, soon = [f"late-{n}" for n in range(30)], [f"soon-{n}" for n in range(100)]
    with loops(fleet, tmp_path, right=dict.fromkeys([*late, *soon], (WEAK, WEAK))) as runs:
        for name in late:
            runs.ready_since(name, hours=2)
        fleet.wait_firing("MendloopEvaluationFreshnessBudgetBurnsFast")
        for name in soon:
            runs.ready_since(name, hours=0)
        fleet.wait_resolved("MendloopEvaluationFreshnessBudgetBurnsFast")


def test_a_diagnosis_that_abstains_warns_until_it_names_causes_again(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(specification, "find_task", lambda name, options: ToyTask(options))
    store, model = ArtifactStore(tmp_path / "artifacts"), ToyModel(answers=wrong_on("green"))
    telemetry = Telemetry("diagnostician")
    ports = Ports(
        store=store,
        checkpoints=StoredCheckpoints(store, cache=tmp_path / "cache", load=lambda path: model),
        probes=all_probes(),
        telemetry=telemetry,
    )
    server = telemetry.serve(host="127.0.0.1", port=0)
    port_file = fleet.deployment.port_file("diagnosing-0")
    port_file.write_text(str(server.server_address[1]))
    fleet.wait_value('mendloop_verdicts_total{cause="UNKNOWN"}', 0)

    def diagnose(*, corpus_lacks: bool, count: int) -> None:
        for number in range(count):
            failure = failure_of(model, store, tmp_path, corpus_lacks=corpus_lacks, number=number)
            on_eval_failed(event(failure), ports=ports)

    try:
        diagnose(corpus_lacks=False, count=6)
        fleet.wait_firing("MendloopVerdictsUnknown")
        diagnose(corpus_lacks=True, count=8)
        fleet.wait_resolved("MendloopVerdictsUnknown")
    finally:
        server.shutdown()
        port_file.unlink()


def failure_of(
    model: ToyModel, store: ArtifactStore, folder: Path, *, corpus_lacks: bool, number: int
) -> evaluation_pb2.EvalFailed:
    """A checkpoint that is wrong on green things, which the corpus has or lacks."""
    weights = folder / "model"
    weights.mkdir(exist_ok=True)
    (weights / "config.json").write_text("{}")
    (weights / "model.safetensors").write_bytes(b"weights")
    items = all_items()
    spec = run_spec(
        store,
        recipe=recipe(template=TEMPLATE, suite={"axes": ["colour"], "max_new_tokens": 8}),
        items=items,
        corpus=corpus_of(per_colour={"green": 0}) if corpus_lacks else corpus_of(),
    )
    outcomes = put_rows(store, outcomes_of(model, ToyTask(), items, max_new_tokens=8), kind=Outcome)
    return evaluation_pb2.EvalFailed(
        position=common_pb2.RunPosition(run_id=f"run-{number}"),
        evaluation_id=f"{number:032d}",
        slice=slice_message(GREEN),
        outcomes=artifact_ref(outcomes),
        weak_slice_count=1,
        checkpoint_ready=checkpoint_pb2.CheckpointReady(
            checkpoint=artifact_ref(save_checkpoint(store, weights)), run_spec=artifact_ref(spec.store(store))
        ),
    )
