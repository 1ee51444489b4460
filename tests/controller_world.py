"""A small world around the controller: a run of four verbs in which `jump` fails, and the events that services send."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builders import item, recipe, run_spec
from google.protobuf.message import Message

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.bus.runtime import Emit, Event
from mendloop.controller.domain.pairs import Result
from mendloop.controller.domain.records import Run, RunState
from mendloop.controller.handlers import Ports, handlers
from mendloop.controller.ports import Change
from mendloop.core.contracts import contract_of
from mendloop.core.events import stable_hash
from mendloop.core.recipe import TrainSettings
from mendloop.core.telemetry import Telemetry
from mendloop.core.training import TrainingJob, TrainingReport
from mendloop.core.wire import artifact_ref, proportion, slice_message
from mendloop.v1 import (
    checkpoint_pb2,
    common_pb2,
    diagnosis_pb2,
    evaluation_pb2,
    intervention_pb2,
    loop_pb2,
    operations_pb2,
)

RUN = "tiny-1"
VERBS = ("walk", "run", "look", "jump")
PER_VERB = 100
JUMP = (("verb", "jump"),)
LOOK = (("verb", "look"),)
START = 1_000.0


class OtherRuns:
    """The Elsewhere port over the dict."""

    def __init__(self, states: Mapping[str, RunState], run_id: str) -> None:
        self._states, self._run_id = states, run_id

    def sealed_answers(self, suite: str) -> Sequence[bool]:
        others = [state for run_id, state in sorted(self._states.items()) if run_id != self._run_id]
        return [query.is_told for state in others for query in state.queries if query.suite == suite]


class MemoryRuns:
    """The Runs port in a dict."""

    def __init__(self) -> None:
        self.states: dict[str, RunState] = {}
        self.handled: dict[str, list[Emit]] = {}

    def apply(self, run_id: str, *, event_id: str, event_type: str, now: float, change: Change) -> list[Emit]:
        if event_id in self.handled:
            return self.handled[event_id]
        before = self.states.get(run_id, RunState(run_id, Run(started_at=now)))
        after, emits = change(before, OtherRuns(self.states, run_id))
        self.states[run_id] = after
        self.handled[event_id] = list(emits)
        return list(emits)


@dataclass
class KnownOutcomes:
    """The Outcomes port over what the test says."""

    tables: dict[str, list[Result]] = field(default_factory=dict)

    def results(self, artifact: Artifact) -> Sequence[Result]:
        return self.tables[artifact.sha256]


def sha(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def ref(name: str) -> common_pb2.ArtifactRef:
    return common_pb2.ArtifactRef(uri=f"file:///{name}", sha256=sha(name), byte_count=1, media_type="x/y")


def results(correct: Mapping[str, int], *, offset: Mapping[str, int] | None = None) -> list[Result]:
    """Outcomes with that many right items a verb; an offset starts the right ones later, which makes churn."""
    return [
        Result(f"{verb}-{i}", {"verb": (verb,)}, start <= i < start + correct[verb])
        for verb in VERBS
        for start in [(offset or {}).get(verb, 0)]
        for i in range(PER_VERB)
    ]


WEAK = {"walk": 97, "run": 97, "look": 97, "jump": 2}
BETTER = {**WEAK, "jump": 80}
HARMFUL = {**BETTER, "walk": 60}


class World:
    """A controller over ports of the test's choice, and a maker of other services' events."""

    def __init__(self, folder: Path, *, runs: Any = None, run_id: str = RUN, clock: Any = None, **changes: Any) -> None:
        self.run_id = run_id
        self.store = ArtifactStore(folder)
        self.recipe = recipe(**{"suite": {"axes": ["verb"], "sealed": 200}, **changes})
        sealed = [item("s1", split="sealed")]  # of the same bytes in every world: one sealed suite
        self.spec = run_spec(
            self.store,
            recipe=self.recipe,
            sealed=sealed if self.recipe.suite.sealed else [],
            sealed_store=ArtifactStore(folder / "sealed"),
        ).store(self.store)
        self.runs = runs if runs is not None else MemoryRuns()
        self.outcomes = KnownOutcomes()
        self.telemetry = Telemetry("controller")
        self.now = START
        self.ports = Ports(
            runs=self.runs,
            outcomes=self.outcomes,
            store=self.store,
            telemetry=self.telemetry,
            clock=clock or (lambda: self.now),
        )
        self.sent: list[Event] = []
        self.emitted: list[Emit] = []

    # --- sending

    def event(self, message: Message) -> Event:
        name = stable_hash(self.run_id, message.DESCRIPTOR.name, message.SerializeToString(deterministic=True))[:32]
        return Event(message, name, "", lambda: False)

    def send(self, *messages: Message) -> list[Emit]:
        """Handle the messages in order; the outputs of all."""
        out: list[Emit] = []
        for message in messages:
            event = self.event(message)
            self.sent.append(event)
            out += self.deliver(event)
        return out

    def deliver(self, event: Event) -> list[Emit]:
        out = list(handlers(self.ports)[type(event.message)](event))
        self.emitted += out
        return out

    # --- what other services say

    def position(self, number: int = 0) -> common_pb2.RunPosition:
        return common_pb2.RunPosition(run_id=self.run_id, round=number)

    def requested(self) -> loop_pb2.LoopRequested:
        return loop_pb2.LoopRequested(position=self.position(), run_spec=artifact_ref(self.spec))

    def report(self, settings: TrainSettings | None = None) -> common_pb2.ArtifactRef:
        job = TrainingJob(
            start=Artifact("file:///x", sha("start"), 1, "x"),
            corpus=Artifact("file:///x", sha("corpus"), 1, "x"),
            batch=None,
            replay_share=0.0,
            settings=settings or TrainSettings(steps=10, batch_size=8, max_tokens=16, eos_in_loss=False),
            template="{prompt}",
            seed=0,
            token_limit=0,
        )
        return artifact_ref(TrainingReport(job, (), ((1, 2.0),), 10, 1000, 3.0, 1e6, "").store(self.store))

    def base_ready(self, *, report: common_pb2.ArtifactRef | None = None) -> checkpoint_pb2.CheckpointReady:
        return checkpoint_pb2.CheckpointReady(
            position=self.position(),
            checkpoint=ref("base"),
            kind=checkpoint_pb2.CHECKPOINT_KIND_BASE,
            run_spec=artifact_ref(self.spec),
            training_report=report,
            metering=common_pb2.Metering(wall_s=1.1, token_count=7),
            diagnosis_wanted=True,
        )

    def candidate_ready(
        self, plan: intervention_pb2.InterventionPlanned, *, tokens: int = 900
    ) -> checkpoint_pb2.CheckpointReady:
        return checkpoint_pb2.CheckpointReady(
            position=plan.position,
            checkpoint=ref(f"candidate-{plan.plan_id}"),
            kind=checkpoint_pb2.CHECKPOINT_KIND_CANDIDATE,
            baseline=plan.checkpoint,
            plan_id=plan.plan_id,
            run_spec=plan.run_spec,
            training_report=self.report(),
            metering=common_pb2.Metering(wall_s=2.3, token_count=tokens),
            diagnosis_wanted=plan.diagnosis_wanted,
        )

    def diverged(self, plan: intervention_pb2.InterventionPlanned) -> checkpoint_pb2.TrainingFailed:
        return checkpoint_pb2.TrainingFailed(
            position=plan.position,
            kind=checkpoint_pb2.CHECKPOINT_KIND_CANDIDATE,
            plan_id=plan.plan_id,
            run_spec=plan.run_spec,
            cause=checkpoint_pb2.TRAINING_FAILURE_CAUSE_DIVERGED,
            reason="the loss grew to 9.1",
            evidence=ref("evidence"),
            metering=common_pb2.Metering(wall_s=0.4, token_count=70),
        )

    def remeasured_ready(
        self, plan: intervention_pb2.InterventionPlanned, *, run_spec: common_pb2.ArtifactRef | None = None
    ) -> checkpoint_pb2.CheckpointReady:
        return checkpoint_pb2.CheckpointReady(
            position=plan.position,
            checkpoint=plan.checkpoint,
            kind=checkpoint_pb2.CHECKPOINT_KIND_REMEASURED,
            baseline=plan.checkpoint,
            plan_id=plan.plan_id,
            run_spec=run_spec or plan.run_spec,
            diagnosis_wanted=plan.diagnosis_wanted,
        )

    def evaluated(
        self,
        ready: checkpoint_pb2.CheckpointReady,
        correct: Mapping[str, int],
        *,
        weak: int = 0,
        sealed: Sequence[evaluation_pb2.SealedComparison] = (),
        offset: Mapping[str, int] | None = None,
    ) -> evaluation_pb2.EvalCompleted:
        rows = results(correct, offset=offset)
        table = f"outcomes-{ready.checkpoint.sha256}-{ready.plan_id}"
        self.outcomes.tables[sha(table)] = rows
        return evaluation_pb2.EvalCompleted(
            position=ready.position,
            evaluation_id=stable_hash("e", ready.checkpoint.sha256, ready.run_spec.sha256)[:32],
            checkpoint_ready=ready,
            outcomes=ref(table),
            accuracy=proportion(sum(r.is_correct for r in rows), len(rows)),
            weak_slice_count=weak,
            sealed=sealed,
            metering=common_pb2.Metering(wall_s=0.7, token_count=11),
        )

    def diagnosed(
        self,
        evaluated: evaluation_pb2.EvalCompleted,
        conditions: Iterable[tuple[str, str]] = JUMP,
        *,
        kind: diagnosis_pb2.InterventionKind.ValueType = diagnosis_pb2.INTERVENTION_KIND_DATA,
        cause: diagnosis_pb2.Cause.ValueType = diagnosis_pb2.CAUSE_DATA_MISSING,
        fixes: Mapping[str, str] | None = None,
        failed: int = 98,
        confidence: float = 0.9,
    ) -> diagnosis_pb2.DiagnosisReady:
        return diagnosis_pb2.DiagnosisReady(
            position=evaluated.position,
            evaluation_id=evaluated.evaluation_id,
            slice=slice_message(list(conditions)),
            cause=cause,
            confidence=confidence,
            interventions=[
                diagnosis_pb2.ProposedIntervention(
                    kind=kind,
                    fixes=[
                        diagnosis_pb2.SettingFix(setting=name, value_json=value)
                        for name, value in (fixes or {}).items()
                    ],
                )
            ],
            failed_count=failed,
            weak_slice_count=evaluated.weak_slice_count,
            metering=common_pb2.Metering(wall_s=0.31, token_count=13),
        )

    def batched(
        self, plan: intervention_pb2.InterventionPlanned, *, count: int = 64
    ) -> intervention_pb2.DataBatchReady:
        return intervention_pb2.DataBatchReady(
            position=plan.position,
            batch=ref("batch"),
            example_count=count,
            drops=[intervention_pb2.DropCount(stage="decontamination", reason="evaluation item", count=3)],
            manifest=ref("manifest"),
            metering=common_pb2.Metering(wall_s=0.13, token_count=0),
            plan=plan,
        )

    def reviewed(
        self, plan: intervention_pb2.InterventionPlanned, *, count: int = 50, approved: bool = True
    ) -> loop_pb2.ApprovalGiven:
        """What people say of a plan's batch."""
        left = intervention_pb2.DataBatchReady(
            batch=ref("left"), example_count=count, manifest=ref("left-manifest"), reviewed_from=ref("batch")
        )
        return loop_pb2.ApprovalGiven(
            position=plan.position,
            plan_id=plan.plan_id,
            approved=approved,
            approved_by="Ada",
            review=True,
            reviewed=left if approved else None,
        )

    def dead(
        self, message: Message, *, handler: str = "trainer", value: bytes | None = None
    ) -> operations_pb2.DeadLetter:
        contract = contract_of(type(message))
        return operations_pb2.DeadLetter(
            topic=contract.topic,
            key=self.run_id,
            value=message.SerializeToString() if value is None else value,
            headers=[operations_pb2.HeaderValue(name="ce_type", value=contract.event_type)],
            handler=handler,
            reason="Permanent: it broke",
            attempt_count=1,
        )

    # --- whole stretches

    def until_plan(self, **diagnosis: Any) -> intervention_pb2.InterventionPlanned:
        """Base measured with `jump` weak and diagnosed: the plan that follows."""
        base = self.evaluated(self.base_ready(report=self.report()), WEAK, weak=1)
        out = self.send(self.requested(), base, self.diagnosed(base, **diagnosis))
        return only(out, intervention_pb2.InterventionPlanned)

    def state(self) -> RunState:
        found: RunState = self.runs.states[self.run_id]
        return found


def sealed_counts(
    *, gained: int = 40, lost: int = 1, jump_n: int = 50, n: int = 200
) -> list[evaluation_pb2.SealedComparison]:
    """Sealed counts of all items and of `jump`; what changes, changes in `jump`."""
    return [
        evaluation_pb2.SealedComparison(
            slice=slice_message([]), n=n, only_baseline=lost, only_candidate=gained, both=n - lost - gained - 5
        ),
        evaluation_pb2.SealedComparison(
            slice=slice_message(list(JUMP)), n=jump_n, only_baseline=lost, only_candidate=gained, both=1
        ),
    ]


def of(emits: Iterable[Emit], kind: type[Any]) -> list[Any]:
    """The messages of a kind."""
    return [emit.message for emit in emits if isinstance(emit.message, kind)]


def only(emits: Iterable[Emit], kind: type[Any]) -> Any:
    """The one message of a kind."""
    found = of(emits, kind)
    assert len(found) == 1, [emit.message.DESCRIPTOR.name for emit in emits]
    return found[0]


def names(emits: Iterable[Emit]) -> list[str]:
    """The names of the messages, in order."""
    return [emit.message.DESCRIPTOR.name for emit in emits]
