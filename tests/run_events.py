"""Builds the events of whole runs for tests of whoever reads a run: one envelope per step, a second apart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.message import Message

from mendloop.core.events import Envelope, envelope_for
from mendloop.core.wire import proportion, slice_message
from mendloop.v1 import (
    checkpoint_pb2,
    common_pb2,
    diagnosis_pb2,
    evaluation_pb2,
    intervention_pb2,
    loop_pb2,
    operations_pb2,
)

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
JUMP = slice_message([("verb", "jump")])
RIGHT = slice_message([("turn", "right"), ("verb", "jump")])


def ref(letter: str) -> common_pb2.ArtifactRef:
    """An artifact whose hash is one letter, 64 times."""
    return common_pb2.ArtifactRef(uri=f"file:///{letter}", sha256=letter * 64, byte_count=1, media_type="x/y")


def position(run_id: str, round: int = 0) -> common_pb2.RunPosition:
    """A place in a run."""
    return common_pb2.RunPosition(run_id=run_id, round=round)


def sent(message: Message, *, second: float = 0, event_id: str = "", key: str = "") -> Envelope:
    """The message as it travels, made so many seconds after START."""
    run_id = message.position.run_id if hasattr(message, "position") else key  # type: ignore[attr-defined]
    return envelope_for(
        message,
        event_id=event_id or f"{message.DESCRIPTOR.name}-{second}",
        source="test",
        key=key or run_id,
        subject=run_id,
        time=START + timedelta(seconds=second),
    )


def requested(run_id: str = "r1", *, second: float = 0) -> Envelope:
    """LoopRequested."""
    message = loop_pb2.LoopRequested(position=position(run_id), run_spec=ref("5"), requested_by="ada")
    return sent(message, second=second, event_id=f"requested-{run_id}")


def ready(run_id: str = "r1", *, round: int = 0, letter: str = "a") -> checkpoint_pb2.CheckpointReady:
    """CheckpointReady: a base in round 0, else a candidate."""
    return checkpoint_pb2.CheckpointReady(
        position=position(run_id, round),
        checkpoint=ref(letter),
        kind=checkpoint_pb2.CHECKPOINT_KIND_CANDIDATE if round else checkpoint_pb2.CHECKPOINT_KIND_BASE,
        baseline=ref("a") if round else None,
        metering=common_pb2.Metering(wall_s=7, token_count=1000, flops=6e9),
        diagnosis_wanted=not round,
    )


def evaluated(
    run_id: str = "r1", *, round: int = 0, letter: str = "a", correct: int = 30, weak: int = 2
) -> evaluation_pb2.EvalCompleted:
    """EvalCompleted over 60 items."""
    return evaluation_pb2.EvalCompleted(
        position=position(run_id, round),
        evaluation_id=f"e{round}",
        checkpoint_ready=ready(run_id, round=round, letter=letter),
        outcomes=ref("0"),
        accuracy=proportion(correct, 60),
        slices=[evaluation_pb2.SliceScore(slice=JUMP, accuracy=proportion(correct - 30, 30))],
        weak_slice_count=weak,
        metering=common_pb2.Metering(wall_s=3, token_count=600),
    )


def failed(run_id: str, weak: common_pb2.CapabilitySlice) -> evaluation_pb2.EvalFailed:
    """EvalFailed of the base checkpoint."""
    return evaluation_pb2.EvalFailed(
        position=position(run_id),
        evaluation_id="e0",
        slice=weak,
        accuracy=proportion(0, 20),
        confirmation=proportion(1, 10),
        p_value=1e-9,
        q_value=1e-8,
        threshold=0.8,
        example_ids=["i1", "i2"],
        weak_slice_count=2,
    )


def diagnosed(run_id: str, weak: common_pb2.CapabilitySlice) -> diagnosis_pb2.DiagnosisReady:
    """DiagnosisReady: data is missing."""
    return diagnosis_pb2.DiagnosisReady(
        position=position(run_id),
        evaluation_id="e0",
        slice=weak,
        cause=diagnosis_pb2.CAUSE_DATA_MISSING,
        family=diagnosis_pb2.CAUSE_FAMILY_DATA,
        confidence=0.9,
        evidence=[
            diagnosis_pb2.Evidence(probe="coverage", measurement="share", value=0.0, high=0.01, n=400, reading="none")
        ],
        scores=[diagnosis_pb2.CauseScore(cause=diagnosis_pb2.CAUSE_DATA_MISSING, score=0.9)],
        interventions=[
            diagnosis_pb2.ProposedIntervention(kind=diagnosis_pb2.INTERVENTION_KIND_DATA, rationale="add data")
        ],
        failed_count=20,
        weak_slice_count=2,
        metering=common_pb2.Metering(wall_s=1),
        summary="the corpus has none of it",
    )


def planned(
    run_id: str = "r1", *, kind: diagnosis_pb2.InterventionKind = diagnosis_pb2.INTERVENTION_KIND_DATA
) -> intervention_pb2.InterventionPlanned:
    """InterventionPlanned of round 1."""
    return intervention_pb2.InterventionPlanned(
        position=position(run_id, 1),
        plan_id="p1",
        kind=kind,
        items=[intervention_pb2.PlanItem(slice=JUMP, example_count=32, cause=diagnosis_pb2.CAUSE_DATA_MISSING)]
        if kind == diagnosis_pb2.INTERVENTION_KIND_DATA
        else [],
        fixes=[]
        if kind == diagnosis_pb2.INTERVENTION_KIND_DATA
        else [diagnosis_pb2.SettingFix(setting="train.eos_in_loss", value_json="true")],
        checkpoint=ref("a"),
        train_token_limit=9000,
        replay_share=0.7,
        rationale="40 of 40 failures",
    )


def batch(run_id: str = "r1", *, example_count: int = 30) -> intervention_pb2.DataBatchReady:
    """DataBatchReady of round 1."""
    return intervention_pb2.DataBatchReady(
        position=position(run_id, 1),
        batch=ref("b"),
        example_count=example_count,
        drops=[intervention_pb2.DropCount(stage="decontamination", reason="an evaluation item", count=2)],
        manifest=ref("d"),
        metering=common_pb2.Metering(wall_s=0.5),
        plan=planned(run_id),
    )


def promoted(run_id: str = "r1") -> checkpoint_pb2.CheckpointPromoted:
    """CheckpointPromoted of round 1."""
    gate = checkpoint_pb2.GateResult(
        gate="target_improves",
        slice=JUMP,
        passed=True,
        n=30,
        before=0,
        after=0.8,
        low=0.6,
        high=0.9,
        p_value=1e-6,
        requirement="p < 0.05",
    )
    return checkpoint_pb2.CheckpointPromoted(
        position=position(run_id, 1), checkpoint=ref("c"), replaced=ref("a"), gates=[gate]
    )


def finished(
    run_id: str = "r1", *, outcome: loop_pb2.LoopOutcome = loop_pb2.LOOP_OUTCOME_PROMOTED
) -> loop_pb2.LoopFinished:
    """LoopFinished after round 1."""
    return loop_pb2.LoopFinished(
        position=position(run_id, 1), outcome=outcome, checkpoint=ref("c"), summary="the candidate passed"
    )


def shard_scored(run_id: str, *, index: int, round: int = 0) -> evaluation_pb2.ShardScored:
    """ShardScored, one of two."""
    return evaluation_pb2.ShardScored(
        position=position(run_id, round),
        evaluation_id=f"e{round}",
        shard_index=index,
        shard_count=2,
        metering=common_pb2.Metering(wall_s=1.5),
    )


def dead_letter(of: Envelope, *, handler: str = "trainer", second: float = 50) -> Envelope:
    """DeadLetter of an event."""
    letter = operations_pb2.DeadLetter(
        topic=of.topic,
        key=of.key,
        value=of.value,
        headers=[operations_pb2.HeaderValue(name=n, value=v) for n, v in of.headers.items()],
        handler=handler,
        reason="Permanent: no",
        attempt_count=1,
        event_id=of.event_id,
    )
    return sent(letter, second=second, event_id=f"dead-{of.event_id}", key=of.key)


def promoted_run(run_id: str = "r1") -> list[Any]:
    """The request of a run, as it travels, and the messages up to its promotion; it goes on."""
    return [
        requested(run_id),
        ready(run_id),
        evaluated(run_id),
        failed(run_id, JUMP),
        diagnosed(run_id, JUMP),
        planned(run_id),
        batch(run_id),
        ready(run_id, round=1, letter="c"),
        evaluated(run_id, round=1, letter="c", correct=54, weak=0),
        promoted(run_id),
    ]


def data_run(run_id: str = "r1") -> list[Envelope]:
    """A whole run, a data verdict, promoted: every event of it in order, at second 0, 1, 2, ..."""
    messages: list[Message] = [
        loop_pb2.LoopRequested(position=position(run_id), run_spec=ref("5"), requested_by="ada"),
        ready(run_id),
        shard_scored(run_id, index=0),
        shard_scored(run_id, index=1),
        evaluated(run_id),
        failed(run_id, JUMP),
        failed(run_id, RIGHT),
        diagnosed(run_id, JUMP),
        diagnosed(run_id, RIGHT),
        loop_pb2.ApprovalRequested(position=position(run_id, 1), plan_id="p1", summary="32 examples"),
        loop_pb2.ApprovalGiven(
            position=position(run_id, 1), plan_id="p1", approved=True, approved_by="bo", reason="ok"
        ),
        planned(run_id),
        batch(run_id),
        ready(run_id, round=1, letter="c"),
        shard_scored(run_id, index=0, round=1),
        shard_scored(run_id, index=1, round=1),
        evaluated(run_id, round=1, letter="c", correct=55, weak=0),
        promoted(run_id),
        finished(run_id),
    ]
    return [sent(message, second=i, event_id=f"{run_id}/{i}") for i, message in enumerate(messages)]
