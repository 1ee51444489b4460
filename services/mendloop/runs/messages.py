"""Turns each protobuf event into the part of a run view that it says. Knows no view and no bus."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.descriptor import EnumDescriptor

from mendloop.artifacts.store import Artifact
from mendloop.core.errors import InvalidEvent
from mendloop.core.wire import artifact_of, conditions_of, slice_name
from mendloop.runs import parts, values
from mendloop.runs.values import Stamp
from mendloop.v1 import (
    arms_pb2,
    checkpoint_pb2,
    common_pb2,
    diagnosis_pb2,
    evaluation_pb2,
    intervention_pb2,
    loop_pb2,
    operations_pb2,
)


def artifact(ref: common_pb2.ArtifactRef) -> Artifact | None:
    """The artifact of a message; None for an empty one."""
    return artifact_of(ref) if ref.sha256 else None


def cost(metering: common_pb2.Metering) -> values.Cost:
    """Cost of a piece of work."""
    return values.Cost(metering.wall_s, metering.gpu_s, metering.token_count, metering.flops)


def capability_slice(message: common_pb2.CapabilitySlice) -> values.Slice:
    """A slice with its name in words."""
    conditions = conditions_of(message)
    return values.Slice(message.slice_id, slice_name(conditions), conditions)


def accuracy(message: common_pb2.Proportion) -> values.Accuracy:
    """A proportion with its interval."""
    return values.Accuracy(message.n, message.correct, message.low, message.high)


def fixes(messages: Iterable[diagnosis_pb2.SettingFix]) -> tuple[values.Fix, ...]:
    """Repaired settings."""
    return tuple(values.Fix(message.setting, message.value_json) for message in messages)


def cause_name(value: int) -> str:
    """EOS_MASKED for CAUSE_EOS_MASKED; a number that this version does not know stands as it is."""
    return _named(diagnosis_pb2.Cause.DESCRIPTOR, value, prefix="CAUSE_")


def outcome_name(value: int) -> str:
    """promoted for LOOP_OUTCOME_PROMOTED; a number that this version does not know stands as it is."""
    return _named(loop_pb2.LoopOutcome.DESCRIPTOR, value, prefix="LOOP_OUTCOME_").lower()


def checkpoint(message: checkpoint_pb2.CheckpointReady, stamp: Stamp) -> parts.Checkpoint:
    """A checkpoint that can be evaluated. Raises InvalidEvent where it names none."""
    made = artifact(message.checkpoint)
    if made is None:
        raise InvalidEvent(f"CheckpointReady of {message.position.run_id!r} carries no checkpoint")
    return parts.Checkpoint(
        stamp,
        made,
        _named(checkpoint_pb2.CheckpointKind.DESCRIPTOR, message.kind, prefix="CHECKPOINT_KIND_").lower(),
        artifact(message.baseline),
        message.plan_id,
        artifact(message.run_spec),
        artifact(message.training_report),
        message.diagnosis_wanted,
        cost(message.metering),
    )


def evaluation(message: evaluation_pb2.EvalCompleted, stamp: Stamp) -> parts.Evaluation:
    """A measured checkpoint."""
    measured = message.checkpoint_ready
    return parts.Evaluation(
        stamp,
        message.evaluation_id,
        checkpoint(measured, stamp) if measured.checkpoint.sha256 else None,
        artifact(message.outcomes),
        accuracy(message.accuracy),
        tuple(values.SliceScore(capability_slice(row.slice), accuracy(row.accuracy)) for row in message.slices),
        message.weak_slice_count,
        tuple(
            parts.SealedCount(capability_slice(s.slice), s.n, s.only_baseline, s.only_candidate, s.both)
            for s in message.sealed
        ),
        cost(message.metering),
    )


def failure(message: evaluation_pb2.EvalFailed, stamp: Stamp) -> parts.Failure:
    """A weak slice."""
    return parts.Failure(
        stamp,
        message.evaluation_id,
        capability_slice(message.slice),
        accuracy(message.accuracy),
        accuracy(message.confirmation),
        message.p_value,
        message.q_value,
        message.threshold,
        tuple(message.example_ids),
        message.slice_version,
        tuple(
            parts.TrendPoint(point.round, point.evaluation_id, artifact(point.checkpoint), accuracy(point.accuracy))
            for point in message.trend
        ),
    )


def diagnosis(message: diagnosis_pb2.DiagnosisReady, stamp: Stamp) -> parts.Diagnosis:
    """A verdict with its evidence."""
    return parts.Diagnosis(
        stamp,
        message.evaluation_id,
        capability_slice(message.slice),
        cause_name(message.cause),
        _named(diagnosis_pb2.CauseFamily.DESCRIPTOR, message.family, prefix="CAUSE_FAMILY_").lower(),
        message.confidence,
        tuple(
            parts.EvidenceRow(
                row.probe,
                row.measurement,
                row.value,
                row.low,
                row.high,
                row.n,
                row.reading,
                artifact(row.attachment),
            )
            for row in message.evidence
        ),
        tuple(values.CauseScore(cause_name(score.cause), score.score) for score in message.scores),
        tuple(parts.Proposal(_intervention(p.kind), fixes(p.fixes), p.rationale) for p in message.interventions),
        message.failed_count,
        message.summary,
        cost(message.metering),
        tuple(cause_name(cause) for cause in message.also),
    )


def plan(message: intervention_pb2.InterventionPlanned, stamp: Stamp) -> parts.Plan:
    """A round's intervention."""
    return parts.Plan(
        stamp,
        message.plan_id,
        _intervention(message.kind),
        tuple(
            parts.PlanItem(capability_slice(item.slice), item.example_count, cause_name(item.cause))
            for item in message.items
        ),
        fixes(message.fixes),
        artifact(message.checkpoint),
        message.train_token_limit,
        message.replay_share,
        message.rationale,
    )


def batch(message: intervention_pb2.DataBatchReady, stamp: Stamp) -> parts.Batch:
    """New training data with the ledger of drops."""
    return parts.Batch(
        stamp,
        artifact(message.batch),
        message.example_count,
        tuple(parts.Drop(drop.stage, drop.reason, drop.count) for drop in message.drops),
        artifact(message.manifest),
        cost(message.metering),
        message.awaits_review,
        artifact(message.reviewed_from),
        artifact(message.corpus),
    )


def promotion(message: checkpoint_pb2.CheckpointPromoted, stamp: Stamp) -> parts.Decision:
    """A candidate that passed."""
    return parts.Decision(
        stamp, True, artifact(message.checkpoint), artifact(message.replaced), _gates(message.gates), ""
    )


def steering(message: loop_pb2.LoopSteered, stamp: Stamp) -> parts.Steering:
    """What a person asked of a run."""
    action = _named(loop_pb2.SteeringAction.DESCRIPTOR, message.action, prefix="STEERING_ACTION_").lower()
    return parts.Steering(stamp, action, message.reason, message.steered_by)


def rollback(message: checkpoint_pb2.CheckpointRolledBack, stamp: Stamp) -> parts.Rollback:
    """A promotion that was taken back."""
    return parts.Rollback(
        stamp,
        message.position.round,
        artifact(message.checkpoint),
        artifact(message.restored),
        message.reason,
        message.rolled_back_by,
    )


def rejection(message: checkpoint_pb2.CheckpointRejected, stamp: Stamp) -> parts.Decision:
    """A candidate that failed, with the reason."""
    return parts.Decision(
        stamp,
        False,
        artifact(message.checkpoint),
        artifact(message.rolled_back_to),
        _gates(message.gates),
        message.reason,
    )


def comparison(message: arms_pb2.ArmCompared, stamp: Stamp) -> parts.ArmComparison:
    """A control arm that is over."""
    return parts.ArmComparison(
        stamp,
        _named(arms_pb2.ArmResult.DESCRIPTOR, message.result, prefix="ARM_RESULT_").lower(),
        message.reason,
        message.plan_id,
        artifact(message.checkpoint),
        artifact(message.main_checkpoint),
        tuple(_difference(row) for row in message.differences),
        message.example_count,
        message.main_example_count,
        message.train_token_count,
        message.main_train_token_count,
        cost(message.metering),
    )


def _difference(row: arms_pb2.ArmDifference) -> parts.ArmDifference:
    main, control = (values.exact_accuracy(row.both + alone, row.n) for alone in (row.only_main, row.only_control))
    return parts.ArmDifference(capability_slice(row.slice), row.n, main, control, row.low, row.high, row.p_value)


def finish(message: loop_pb2.LoopFinished, stamp: Stamp) -> parts.Finish:
    """How the run ended."""
    return parts.Finish(
        stamp,
        outcome_name(message.outcome),
        artifact(message.checkpoint),
        message.summary,
        cost(message.metering),
    )


def failed_training(message: checkpoint_pb2.TrainingFailed, stamp: Stamp) -> parts.FailedTraining:
    """A training that became no checkpoint."""
    cause = _named(checkpoint_pb2.TrainingFailureCause.DESCRIPTOR, message.cause, prefix="TRAINING_FAILURE_CAUSE_")
    return parts.FailedTraining(
        stamp, cause.lower(), message.reason, message.step, artifact(message.evidence), cost(message.metering)
    )


def letter(message: operations_pb2.DeadLetter, stamp: Stamp) -> parts.Letter:
    """An event of the run that a service refused."""
    event_type = next((header.value for header in message.headers if header.name == "ce_type"), "")
    return parts.Letter(stamp, message.handler, message.reason, event_type, message.event_id, message.attempt_count)


def _gates(messages: Iterable[checkpoint_pb2.GateResult]) -> tuple[parts.Gate, ...]:
    return tuple(
        parts.Gate(
            m.gate, capability_slice(m.slice), m.passed, m.n, m.before, m.after, m.low, m.high, m.p_value, m.requirement
        )
        for m in messages
    )


def _intervention(value: int) -> str:
    return _named(diagnosis_pb2.InterventionKind.DESCRIPTOR, value, prefix="INTERVENTION_KIND_").lower()


def _named(enum: EnumDescriptor, value: int, *, prefix: str) -> str:
    known = enum.values_by_number.get(value)
    return known.name.removeprefix(prefix) if known else str(value)
