"""Messages as records: the only place where the controller reads protobuf fields into its domain."""

from __future__ import annotations

from google.protobuf.message import Message

from mendloop.controller.domain.pairs import Counts
from mendloop.controller.domain.records import (
    Approval,
    Batch,
    CheckpointKind,
    Conditions,
    Cost,
    Diagnosis,
    Evaluation,
    Kind,
    Review,
    Training,
)
from mendloop.core.errors import InvalidEvent
from mendloop.core.wire import conditions_of
from mendloop.v1 import checkpoint_pb2, common_pb2, diagnosis_pb2, evaluation_pb2, intervention_pb2, loop_pb2


def run_id_of(message: Message) -> str:
    """The run that an event belongs to. Raises InvalidEvent where it names none."""
    run_id: str = message.position.run_id  # type: ignore[attr-defined]  # every event of a run has a position
    if not run_id:
        raise InvalidEvent(f"{message.DESCRIPTOR.name} has no run id")
    return run_id


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
    return Batch(
        plan_id=message.plan.plan_id,
        example_count=message.example_count,
        manifest=message.manifest.sha256,
        reason=", ".join(f"{stage}: {count} {reason}" for stage, reason, count in drops),
        cost=_cost(message.metering),
    )


def approval_of(message: loop_pb2.ApprovalGiven, *, now: float) -> Approval:
    """The record of a person's answer."""
    return Approval(message.plan_id, message.approved, message.approved_by, message.reason, now)


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
