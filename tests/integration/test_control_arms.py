"""A small real run with control arms: controller, generator, trainer and evaluator in one process, on SCAN.

The test delivers events in turn and says only what a diagnostician would. The same run without arms makes the same
batch and the same candidate, byte for byte.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from mendloop.artifacts.store import ArtifactStore
from mendloop.artifacts.tables import get_rows, put_rows
from mendloop.bus.runtime import Emit, Event, Handler
from mendloop.controller.adapters.migrate import migrate
from mendloop.controller.adapters.outcomes import StoredOutcomes as ControllerOutcomes
from mendloop.controller.adapters.sql import SqlRuns
from mendloop.controller.domain.budget import limits, spent
from mendloop.controller.domain.records import RunState
from mendloop.controller.handlers import Ports as ControllerPorts
from mendloop.controller.handlers import handlers as controller_handlers
from mendloop.core.contracts import CONTROLLER, DATA_GENERATOR, DIAGNOSTICIAN, EVALUATOR, GATEWAY, TRAINER, contract_of
from mendloop.core.events import envelope_for, stable_hash
from mendloop.core.recipe import Recipe
from mendloop.core.records import Example, Outcome
from mendloop.core.run_spec import RunSpec
from mendloop.core.telemetry import Telemetry
from mendloop.core.wire import artifact_of, artifact_ref
from mendloop.data_generator.adapters.near_duplicates import MinHashIndex
from mendloop.data_generator.adapters.pool import PoolSource
from mendloop.data_generator.adapters.teacher import TaskTeacher
from mendloop.data_generator.domain.collection import Limits
from mendloop.data_generator.handlers import Ports as GeneratorPorts
from mendloop.data_generator.handlers import handlers as generator_handlers
from mendloop.database.engine import open_engine
from mendloop.evaluator.adapters.checkpoints import StoredCheckpoints
from mendloop.evaluator.adapters.outcomes import StoredOutcomes
from mendloop.evaluator.handlers import Ports as EvaluatorPorts
from mendloop.evaluator.handlers import handlers as evaluator_handlers
from mendloop.report.page import render
from mendloop.report.summary import summarize
from mendloop.runs.fold import fold_message
from mendloop.runs.model import RunView
from mendloop.submission.submit import resolve
from mendloop.trainer.adapters.stored_training import StoredTraining
from mendloop.trainer.handlers import Ports as TrainerPorts
from mendloop.trainer.handlers import handlers as trainer_handlers
from mendloop.v1 import (
    arms_pb2,
    checkpoint_pb2,
    common_pb2,
    diagnosis_pb2,
    evaluation_pb2,
    intervention_pb2,
    loop_pb2,
)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
RUN = "arms-1"
CORPUS_ROWS = 400
FIX = {"steps": 25, "batch_size": 32, "learning_rate": 3.0e-3, "warmup_steps": 5, "max_tokens": 96}
TOKENS_OF_A_FIX = 25 * 32 * 96
RECIPE: dict[str, Any] = {
    "name": "arms",
    "task": "scan",
    "template": "IN: {prompt} OUT:",
    "base": {"model": "package:scan/base"},
    "corpus": {"split": "add_prim_jump"},
    "pool": {"share": 0.02},
    "suite": {
        "search": 60,
        "confirm": 40,
        "sealed": 20,
        "options": {"domain": "all"},
        "axes": ["verb"],
        "max_depth": 1,
        "min_items": 10,
        "max_slices": 1,
        "shards": 1,
    },
    "fix": FIX,
    "budget": {"new_examples": 24, "train_tokens": 3 * TOKENS_OF_A_FIX, "wall_s": 3600},
}
ARMS = ["random", {"oracle": {"verb": "jump"}}, "directly-sampled"]
"""The budget holds the main arm and two controls: the last is left out."""


@dataclass
class Loop:
    """The services over one store; every event is delivered to all who consume it, first come, first served."""

    home: Path
    recipe: Recipe
    sent: list[tuple[str, Message]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.store, self.sealed_store = ArtifactStore(self.home / "store"), ArtifactStore(self.home / "sealed")
        self.engine = open_engine(f"sqlite:///{self.home}/controller.db")
        migrate(self.engine)
        self.runs = SqlRuns(self.engine)
        self.spec = self._spec()
        self.tables = self._tables()

    def _spec(self) -> RunSpec:
        spec = resolve(self.recipe, store=self.store, sealed_store=self.sealed_store, base_dir=self.home)
        rows = get_rows(self.store, spec.corpus, kind=Example)
        return replace(spec, corpus=put_rows(self.store, rows[:: len(rows) // CORPUS_ROWS], kind=Example))

    def _tables(self) -> dict[str, dict[type[Message], Handler]]:
        controller = ControllerPorts(
            self.runs, ControllerOutcomes(self.store), self.store, Telemetry(CONTROLLER), clock=time.time
        )
        generator = GeneratorPorts(
            store=self.store,
            telemetry=Telemetry(DATA_GENERATOR),
            open_sources=lambda task, name, pool: [
                PoolSource(pool, annotate=task.annotate),
                TaskTeacher(task, task_name=name),
            ],
            open_index=MinHashIndex,
            limits=Limits(candidates=2_000, survivors=200, fruitless=1_000),
        )
        backend = StoredTraining(
            self.store, work_dir=self.home / "trainer", telemetry=Telemetry(TRAINER), torch_threads=1
        )
        evaluator = EvaluatorPorts(
            store=self.store,
            sealed_store=self.sealed_store,
            outcomes=StoredOutcomes(self.store),
            sealed_outcomes=StoredOutcomes(self.sealed_store),
            models=StoredCheckpoints(self.store, cache=self.home / "checkpoints"),
            telemetry=Telemetry(EVALUATOR),
        )
        return {
            CONTROLLER: controller_handlers(controller),
            DATA_GENERATOR: generator_handlers(generator),
            TRAINER: trainer_handlers(TrainerPorts(self.store, backend)),
            EVALUATOR: evaluator_handlers(evaluator),
            DIAGNOSTICIAN: {evaluation_pb2.EvalFailed: _diagnosed},
            GATEWAY: {},
        }

    def play(self) -> RunState:
        """Deliver until nothing is left; the budget is looked at after every event."""
        request = loop_pb2.LoopRequested(
            position=common_pb2.RunPosition(run_id=RUN), run_spec=artifact_ref(self.spec.store(self.store))
        )
        waiting: deque[tuple[str, Message]] = deque([("request", request)])
        while waiting:
            event_id, message = waiting.popleft()
            self.sent.append((event_id, message))
            for service in contract_of(type(message)).consumers:
                waiting += self._handled(service, event_id, message)
            self._check_budget()
        state = self.runs.load(RUN)
        assert state is not None
        self.engine.dispose()
        return state

    def _handled(self, service: str, event_id: str, message: Message) -> list[tuple[str, Message]]:
        handler = self.tables[service].get(type(message))
        emits: Sequence[Emit] = handler(Event(message, event_id, "", lambda: False)) if handler else ()
        found = []
        for index, emit in enumerate(emits):
            identity = emit.identity or f"{event_id}/{index}"
            name = stable_hash(service, emit.message.DESCRIPTOR.full_name, identity)[:32]
            if name not in self.seen:
                found.append((name, emit.message))
            self.seen.add(name)
        return found

    def _check_budget(self) -> None:
        state = self.runs.load(RUN)
        if state is not None:
            for resource, limit in limits(self.recipe.budget).items():
                assert resource == "wall_s" or spent(state.reservations, resource) <= limit, resource

    def of(self, kind: type[Any], *, arm: str | None = None) -> list[Any]:
        """The messages of a kind, of one arm where it is given."""
        found: list[Any] = [message for _, message in self.sent if isinstance(message, kind)]
        return [message for message in found if arm in (None, message.position.arm)]

    def view(self) -> RunView:
        """The run as people see it."""
        view: RunView | None = None
        for event_id, message in self.sent:
            envelope = envelope_for(message, event_id=event_id, source="test", key=RUN, subject=RUN)
            view = fold_message(view, envelope, message)
        assert view is not None
        return view


def _diagnosed(event: Event) -> list[Emit]:
    """Every weak slice lacks data."""
    failed: Any = event.message
    verdict = diagnosis_pb2.DiagnosisReady(
        position=failed.position,
        evaluation_id=failed.evaluation_id,
        slice=failed.slice,
        cause=diagnosis_pb2.CAUSE_DATA_MISSING,
        confidence=0.9,
        interventions=[diagnosis_pb2.ProposedIntervention(kind=diagnosis_pb2.INTERVENTION_KIND_DATA)],
        failed_count=failed.accuracy.n - failed.accuracy.correct,
        weak_slice_count=failed.weak_slice_count,
    )
    return [Emit(verdict, key=RUN, subject=RUN)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[Loop, RunState], tuple[Loop, RunState]]:
    """The run with its controls, and the same one without any."""
    played = []
    for name, arms in (("with", ARMS), ("without", [])):
        home = tmp_path_factory.mktemp(name)
        loop = Loop(home, Recipe.model_validate({**RECIPE, "arms": arms}))
        played.append((loop, loop.play()))
    return played[0], played[1]


def _outcomes(loop: Loop, arm: str) -> list[Outcome]:
    """Of an arm's candidate, by item."""
    [measured] = [e for e in loop.of(evaluation_pb2.EvalCompleted, arm=arm) if e.position.round == 1]
    return sorted(get_rows(loop.store, artifact_of(measured.outcomes), kind=Outcome), key=lambda row: row.item_id)


def _ids(loop: Loop, arm: str) -> list[str]:
    return [row.item_id for row in _outcomes(loop, arm)]


def test_three_candidates_are_measured_on_the_same_items_and_compared(runs: Any) -> None:
    (loop, state), _ = runs

    candidates = [c for c in loop.of(checkpoint_pb2.CheckpointReady) if c.position.round == 1]
    assert sorted(c.position.arm for c in candidates) == ["", "oracle", "random"]
    assert len({c.checkpoint.sha256 for c in candidates}) == 3
    assert _ids(loop, "") == _ids(loop, "random") == _ids(loop, "oracle")
    compared = {m.position.arm: m for m in loop.of(arms_pb2.ArmCompared)}
    assert {arm: m.result for arm, m in compared.items()} == {
        "random": arms_pb2.ARM_RESULT_COMPARED,
        "oracle": arms_pb2.ARM_RESULT_COMPARED,
        "directly-sampled": arms_pb2.ARM_RESULT_LEFT_OUT,
    }
    for arm in ("random", "oracle"):
        whole, target = compared[arm].differences
        assert (whole.n, compared[arm].example_count, compared[arm].main_example_count) == (100, 24, 24)
        assert target.low <= (target.only_main - target.only_control) / target.n <= target.high
        assert compared[arm].train_token_count > 0
    assert sorted((row.arm, row.position) for row in state.differences) == [
        (arm, at) for arm in ("oracle", "random") for at in (0, 1)
    ]


def test_controls_differ_in_their_examples_alone(runs: Any) -> None:
    (loop, _), _ = runs
    batches = {b.position.arm: b for b in loop.of(intervention_pb2.DataBatchReady)}

    rows = {arm: get_rows(loop.store, artifact_of(b.batch), kind=Example) for arm, b in batches.items()}

    verbs = {arm: [row.axes["verb"] for row in found] for arm, found in rows.items()}
    assert all("jump" in verb for verb in verbs["oracle"])
    assert 0 < sum("jump" in verb for verb in verbs["random"]) < 24
    assert {row.source for row in rows["random"]} == {"pool"}
    plans = {p.position.arm: p for p in loop.of(intervention_pb2.InterventionPlanned)}
    kept = ("checkpoint", "run_spec", "replay_share", "train_token_limit")
    assert all(getattr(plans[arm], name) == getattr(plans[""], name) for arm in plans for name in kept)


def test_main_arm_makes_the_bytes_that_it_makes_without_controls(runs: Any) -> None:
    (told, _), (plain, _) = runs

    for loop in (told, plain):
        assert len(loop.of(intervention_pb2.DataBatchReady, arm="")) == 1
    batches = [loop.of(intervention_pb2.DataBatchReady, arm="")[0].batch.sha256 for loop in (told, plain)]
    candidates = [loop.of(checkpoint_pb2.CheckpointReady, arm="")[-1].checkpoint.sha256 for loop in (told, plain)]
    said = [[row.output for row in _outcomes(loop, "")] for loop in (told, plain)]
    assert batches[0] == batches[1]
    assert candidates[0] == candidates[1]
    assert said[0] == said[1]
    assert plain.of(arms_pb2.ArmCompared) == []


def test_budget_is_settled_and_the_arm_that_it_does_not_hold_is_left_out(runs: Any) -> None:
    (loop, state), _ = runs

    assert all(row.is_settled for row in state.reservations)
    assert len({row.plan_id for row in state.reservations}) == 3
    left_out = next(m for m in loop.of(arms_pb2.ArmCompared) if m.position.arm == "directly-sampled")
    assert "left out, no budget for train_tokens" in left_out.reason
    trained = sum(c.metering.token_count for c in loop.of(checkpoint_pb2.CheckpointReady) if c.position.round == 1)
    assert spent(state.reservations, "train_tokens") == trained


def test_run_ends_once_after_its_controls_and_only_the_main_arm_is_decided(runs: Any) -> None:
    (loop, state), (_, plain) = runs

    assert isinstance(loop.sent[-1][1], loop_pb2.LoopFinished)
    assert len(loop.of(loop_pb2.LoopFinished)) == 1
    assert [(r.arm, r.decision) for r in state.rounds] == [("", plain.rounds[0].decision)]
    assert state.run.outcome == plain.run.outcome
    assert all(not e.sealed for e in loop.of(evaluation_pb2.EvalCompleted) if e.position.arm)
    assert [q.arm for q in state.queries] == [""]


def test_page_and_document_show_the_comparison(runs: Any) -> None:
    (loop, _), _ = runs
    view = loop.view()

    summary = summarize(view, store=loop.store)
    page = render([summary], title="t", subtitle="s")

    assert {arm["arm"]: arm["result"] for arm in summary["arms"]} == {
        "random": "compared",
        "oracle": "compared",
        "directly-sampled": "left_out",
    }
    assert "Control arms" in page
    assert "no budget for train_tokens" in page
