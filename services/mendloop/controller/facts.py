"""Messages as records: the only place where the controller reads protobuf fields into its domain."""

from __future__ import annotations

from google.protobuf.message import Message

from mendloop.controller.domain.budget import GPU_S, Shortage
from mendloop.controller.domain.controls import ArmFailure
from mendloop.controller.domain.gates import TARGET
from mendloop.controller.domain.pairs import Counts
from mendloop.controller.domain.records import (
    Approval,
    Batch,
    CheckpointKind,
    Conditions,
    Cost,
    Diagnosis,
    Evaluation,
    GateAnswer,
    Kind,
    Review,
    RunState,
    Training,
)
from mendloop.controller.domain.steering import Action, Steering
from mendloop.controller.domain.strategies import Past
from mendloop.controller.domain.twins import TwinCounts
from mendloop.core.errors import InvalidEvent
from mendloop.core.wire import conditions_of
from mendloop.v1 import checkpoint_pb2, common_pb2, diagnosis_pb2, evaluation_pb2, intervention_pb2, loop_pb2


def run_id_of(message: Message) -> str:
    """The run that an event belongs to. Raises InvalidEvent where it names none."""
    run_id: str = message.position.run_id  # type: ignore[attr-defined]  # every event of a run has a position
    if not run_id:
        raise InvalidEvent(f"{message.DESCRIPTOR.name} has no run id")
    return run_id


def arm_of(message: Message) -> str:
    """The arm that an event belongs to; empty for the main one."""
    arm: str = message.position.arm  # type: ignore[attr-defined]  # as above
    return arm


def arm_failure_of(message: Message, *, handler: str, reason: str) -> ArmFailure:
    """The record of a control whose event a service gave up, or whose training failed."""
    position: common_pb2.RunPosition = message.position  # type: ignore[attr-defined]  # as above
    return ArmFailure(position.round, position.arm, handler, reason)


def raw(message: Message) -> bytes:
    """A message's bytes, the same for the same content."""
    return message.SerializeToString(deterministic=True)


def evaluation_of(message: evaluation_pb2.EvalCompleted) -> Evaluation:
    """The record of a measured checkpoint."""
    ready = message.checkpoint_ready
    return Evaluation(
        round=message.position.round,
        arm=message.position.arm,
        evaluation_id=message.evaluation_id,
        kind=_checkpoint_kind(ready.kind),
        plan_id=ready.plan_id,
        checkpoint=ready.checkpoint.sha256,
        weak_slice_count=message.weak_slice_count,
        correct=message.accuracy.correct,
        n=message.accuracy.n,
        has_training_report=bool(ready.training_report.sha256),
        cost=_cost(message.metering),
        event=raw(message),
    )


def training_of(message: checkpoint_pb2.CheckpointReady) -> Training:
    """The record of a checkpoint that was made."""
    return Training(
        round=message.position.round,
        arm=message.position.arm,
        plan_id=message.plan_id,
        checkpoint=message.checkpoint.sha256,
        cost=_cost(message.metering),
    )


def failed_training_of(message: checkpoint_pb2.TrainingFailed) -> Training:
    """The record of a training that made no checkpoint: what it cost is settled all the same."""
    return Training(
        round=message.position.round,
        arm=message.position.arm,
        plan_id=message.plan_id,
        checkpoint="",
        cost=_cost(message.metering),
    )


def shortage_of(message: checkpoint_pb2.TrainingFailed) -> Shortage:
    """What a training lacked that its GPU-seconds ended: one more step of the mean length."""
    spent_s = message.metering.gpu_s
    return Shortage(GPU_S, message.gpu_s_limit, spent_s, spent_s / max(1, message.step))


def is_remeasured(message: checkpoint_pb2.CheckpointReady) -> bool:
    """Whether nothing was trained for it: the evaluator made the event up for its own shards."""
    return message.kind == checkpoint_pb2.CHECKPOINT_KIND_REMEASURED


def diagnosis_of(message: diagnosis_pb2.DiagnosisReady) -> Diagnosis:
    """The record of a verdict; the intervention is the one that the diagnostician puts first."""
    first = message.interventions[0] if message.interventions else diagnosis_pb2.ProposedIntervention()
    return Diagnosis(
        round=message.position.round,
        arm=message.position.arm,
        evaluation_id=message.evaluation_id,
        slice_id=message.slice.slice_id,
        conditions=conditions_of(message.slice),
        cause=diagnosis_pb2.Cause.Name(message.cause).removeprefix("CAUSE_").lower(),
        confidence=message.confidence,
        kind=_kind(first.kind),
        fixes=tuple((fix.setting, fix.value_json) for fix in first.fixes),
        failed_count=message.failed_count,
        cost=_cost(message.metering),
        event=raw(message),
    )


def batch_of(message: intervention_pb2.DataBatchReady) -> Batch:
    """The record of a data batch."""
    drops = sorted((drop.stage, drop.reason, drop.count) for drop in message.drops if drop.count)
    notes = [f"{drop.stage}: {drop.reason}" for drop in message.drops if not drop.count]
    reasons = [f"{stage}: {count} {reason}" for stage, reason, count in drops] or notes
    return Batch(
        plan_id=message.plan.plan_id,
        example_count=message.example_count,
        manifest=message.manifest.sha256,
        reason=", ".join(reasons),
        cost=_cost(message.metering),
        has_corpus=bool(message.corpus.sha256),
        event=raw(message),
    )


def approval_of(message: loop_pb2.ApprovalGiven, *, now: float) -> Approval:
    """The record of a person's answer."""
    return Approval(message.plan_id, message.approved, message.approved_by, message.reason, now)


def steering_of(message: loop_pb2.LoopSteered, *, number: int, now: float) -> Steering:
    """The record of what a person asked. Raises InvalidEvent for an action that this version does not know."""
    try:
        action = Action(loop_pb2.SteeringAction.Name(message.action).removeprefix("STEERING_ACTION_").lower())
    except ValueError:
        raise InvalidEvent(f"a run cannot be steered by action {message.action}") from None
    return Steering(number, action, message.steered_by, message.reason, now)


def review_of(message: loop_pb2.ApprovalGiven, *, now: float) -> Review:
    """The record of people's answer to a batch.

    Raises InvalidEvent where it is approved without what they left of which batch: there is nothing to train on.
    """
    reviewed = message.reviewed
    if message.approved and not (reviewed.batch.sha256 and reviewed.reviewed_from.sha256):
        raise InvalidEvent(f"the batch of plan {message.plan_id} is approved, but the answer does not say which rows")
    event = raw(reviewed) if message.approved else b""
    count = reviewed.example_count if message.approved else 0
    return Review(message.plan_id, message.approved, message.approved_by, message.reason, count, now, event)


def sealed_of(message: evaluation_pb2.EvalCompleted) -> dict[Conditions, Counts]:
    """Paired counts on the sealed holdout by slice."""
    return {
        conditions_of(row.slice): Counts(n=row.n, lost=row.only_baseline, gained=row.only_candidate, both=row.both)
        for row in message.sealed
    }


def twins_of(message: evaluation_pb2.EvalCompleted) -> dict[Conditions, TwinCounts]:
    """Paired counts of items and their fresh twins by slice. Raises InvalidEvent for counts that are not 16."""
    try:
        return {conditions_of(row.slice): TwinCounts(tuple(row.counts), row.missing) for row in message.twins}
    except ValueError as error:
        raise InvalidEvent(f"evaluation {message.evaluation_id} has impossible twins: {error}") from error


def past_of(state: RunState) -> list[Past]:
    """What the data rounds of a run brought each of their slices, by the gates that looked at the targets.

    Controls say nothing here: what an oracle knows must not reach the main arm.
    Examples that the funnel dropped count against the slices in proportion, for a batch has one count.
    """
    found = []
    for plan in sorted(state.plans, key=lambda plan: (plan.round, plan.arm)):
        batch = state.batch(plan.plan_id)
        if plan.kind is not Kind.DATA or plan.arm or batch is None:
            continue
        items = intervention_pb2.InterventionPlanned.FromString(plan.event).items
        made = batch.example_count / max(1, sum(item.example_count for item in items))
        answers = {a.conditions: a for a in state.answers(plan.round) if a.gate == TARGET}
        for item in items:
            answer = answers.get(conditions_of(item.slice))
            if answer is not None:
                found.append(_past(answer, item, example_count=round(item.example_count * made)))
    return found


def _past(answer: GateAnswer, item: intervention_pb2.PlanItem, *, example_count: int) -> Past:
    return Past(
        conditions=answer.conditions,
        cause=diagnosis_pb2.Cause.Name(item.cause).removeprefix("CAUSE_").lower(),
        example_count=example_count,
        failed_before=round((1 - answer.before) * answer.n),
        failed_after=round((1 - answer.after) * answer.n),
    )


def _cost(message: common_pb2.Metering) -> Cost:
    return Cost(message.wall_s, message.gpu_s, message.token_count, message.flops)


def _kind(value: diagnosis_pb2.InterventionKind.ValueType) -> Kind:
    if value == diagnosis_pb2.INTERVENTION_KIND_UNSPECIFIED:
        return Kind.NONE
    return Kind(diagnosis_pb2.InterventionKind.Name(value).removeprefix("INTERVENTION_KIND_").lower())


def _checkpoint_kind(value: checkpoint_pb2.CheckpointKind.ValueType) -> CheckpointKind:
    try:
        return CheckpointKind(checkpoint_pb2.CheckpointKind.Name(value).removeprefix("CHECKPOINT_KIND_").lower())
    except ValueError:
        raise InvalidEvent(f"a checkpoint of kind {value} cannot be judged") from None
