"""One event through the trainer: a base, new data or a training fix in, one CheckpointReady or TrainingFailed out.

Knows what to train and what to say of it; knows not how it is trained. Protobuf stops here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

from google.protobuf.message import Message

from mendloop.artifacts.lineage import Node, find, record
from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.bus.endings import has_ended
from mendloop.bus.runtime import Emit, Event, Handler
from mendloop.core.errors import Interrupted, Permanent
from mendloop.core.fixes import repaired_training
from mendloop.core.run_spec import RunSpec
from mendloop.core.training import (
    FailureCause,
    TrainingFailure,
    TrainingJob,
    TrainingReport,
    trains_without_examples,
)
from mendloop.core.wire import artifact_of, artifact_ref, fixes_of
from mendloop.trainer.domain.limits import gpu_s_of_plan, gpu_s_of_run
from mendloop.trainer.finished import Finished, find_finished, keep_failure, keep_finished
from mendloop.trainer.ports import TrainingBackend, TrainingFailed
from mendloop.v1 import checkpoint_pb2, common_pb2, diagnosis_pb2, intervention_pb2, loop_pb2

log = logging.getLogger(__name__)
_CAUSES: Mapping[FailureCause, checkpoint_pb2.TrainingFailureCause.ValueType] = {
    "not_finite": checkpoint_pb2.TRAINING_FAILURE_CAUSE_NOT_FINITE,
    "diverged": checkpoint_pb2.TRAINING_FAILURE_CAUSE_DIVERGED,
    "budget": checkpoint_pb2.TRAINING_FAILURE_CAUSE_BUDGET,
    "unhealthy": checkpoint_pb2.TRAINING_FAILURE_CAUSE_UNHEALTHY,
}


@dataclass(frozen=True, slots=True)
class Ports:
    """What the handlers need."""

    store: ArtifactStore
    backend: TrainingBackend


def handlers(ports: Ports) -> dict[type[Message], Handler]:
    """The handlers of the service, bound to its ports."""
    return {
        loop_pb2.LoopRequested: partial(on_loop_requested, ports=ports),
        intervention_pb2.DataBatchReady: partial(on_data_batch_ready, ports=ports),
        intervention_pb2.InterventionPlanned: partial(on_intervention_planned, ports=ports),
    }


def on_loop_requested(event: Event, *, ports: Ports) -> list[Emit]:
    """The checkpoint that a run measures first: as it is, or trained on the corpus where the recipe says so."""
    request = cast(loop_pb2.LoopRequested, event.message)
    spec = RunSpec.load(ports.store, artifact_of(request.run_spec))
    position = common_pb2.RunPosition(run_id=request.position.run_id, arm=request.position.arm)
    ready = checkpoint_pb2.CheckpointReady(
        position=position,
        checkpoint=artifact_ref(spec.base),
        kind=checkpoint_pb2.CHECKPOINT_KIND_BASE,
        run_spec=request.run_spec,
        metering=common_pb2.Metering(),
        diagnosis_wanted=True,
    )
    _record_start(ports.store, spec.base, run_id=position.run_id)
    if spec.recipe.base.train is None:
        return [_emitted(ready)]
    job = TrainingJob(
        start=spec.base,
        corpus=spec.corpus,
        batch=None,
        replay_share=0.0,
        settings=spec.recipe.base.train,
        template=spec.recipe.template,
        seed=spec.recipe.seed,
        token_limit=0,
    )
    limit = gpu_s_of_run(spec.recipe.budget)
    return [_trained_or_failed(ready, job, limit=limit, ports=ports, event=event)]


def on_data_batch_ready(event: Event, *, ports: Ports) -> list[Emit]:
    """Train a candidate on new data with replay, or on the repaired corpus alone where no example is new.

    An empty batch without one trains nothing: the controller ends the run. A batch that people review first is none of
    the trainer's business: the controller sends what they leave of it.
    """
    batch = cast(intervention_pb2.DataBatchReady, event.message)
    if batch.awaits_review:
        log.info("batch waits for its review", extra={"run_id": batch.position.run_id})
        return []
    plan = batch.plan
    spec = RunSpec.load(ports.store, artifact_of(plan.run_spec))
    if not batch.example_count and not trains_without_examples(spec.recipe.fix, has_corpus=bool(batch.corpus.sha256)):
        log.info("empty batch: nothing to train", extra={"run_id": batch.position.run_id})
        return []
    job = TrainingJob(
        start=artifact_of(plan.checkpoint),
        corpus=artifact_of(batch.corpus) if batch.corpus.sha256 else spec.corpus,
        batch=artifact_of(batch.batch) if batch.example_count else None,
        replay_share=plan.replay_share if batch.example_count else 0.0,
        settings=spec.recipe.fix,
        template=spec.recipe.template,
        seed=spec.recipe.seed + plan.position.round,
        token_limit=plan.train_token_limit,
    )
    limit = gpu_s_of_plan(plan.gpu_s_limit, before_s=batch.metering.gpu_s)
    return [_candidate(plan, job, limit=limit, ports=ports, event=event)]


def on_intervention_planned(event: Event, *, ports: Ports) -> list[Emit]:
    """Repeat the training of the failing checkpoint with repaired settings: same start, same data.

    Other kinds of plan are none of the trainer's business.
    Raises Permanent where nothing was trained before, or where the fix changes nothing.
    """
    plan = cast(intervention_pb2.InterventionPlanned, event.message)
    if plan.kind != diagnosis_pb2.INTERVENTION_KIND_TRAINING_FIX:
        return []
    if not plan.training_report.sha256:
        raise Permanent(f"plan {plan.plan_id} repairs a training, but names no training report: nothing to repeat")
    failed = TrainingReport.load(ports.store, artifact_of(plan.training_report)).job
    fixes = fixes_of(plan.fixes)
    settings = repaired_training(failed.settings, fixes)
    if settings == failed.settings:
        raise Permanent(
            f"plan {plan.plan_id} changes no training setting ({', '.join(map(str, fixes)) or 'no fixes'}): "
            "the same training would give the same checkpoint"
        )
    job = replace(failed, settings=settings, token_limit=plan.train_token_limit)
    limit = gpu_s_of_plan(plan.gpu_s_limit)
    return [_candidate(plan, job, limit=limit, ports=ports, event=event)]


def _candidate(
    plan: intervention_pb2.InterventionPlanned, job: TrainingJob, *, limit: float | None, ports: Ports, event: Event
) -> Emit:
    ready = checkpoint_pb2.CheckpointReady(
        position=plan.position,
        kind=checkpoint_pb2.CHECKPOINT_KIND_CANDIDATE,
        baseline=plan.checkpoint,
        plan_id=plan.plan_id,
        run_spec=plan.run_spec,
        diagnosis_wanted=plan.diagnosis_wanted,
    )
    return _trained_or_failed(ready, job, limit=limit, ports=ports, event=event)


def _trained_or_failed(
    ready: checkpoint_pb2.CheckpointReady, job: TrainingJob, *, limit: float | None, ports: Ports, event: Event
) -> Emit:
    """The event of a training: what it made, or why it made nothing. limit: its GPU-seconds, None for any number."""
    try:
        _add_training(ready, job, limit=limit, ports=ports, event=event)
    except TrainingFailed as error:
        log.warning("training failed", extra={"run_id": ready.position.run_id, "reason": str(error)})
        evidence = keep_failure(ports.store, error.failure)
        ports.backend.forget(job)
        failed = _failed(ready, error.failure, evidence=evidence)
        return Emit(failed, key=ready.position.run_id, subject=ready.position.run_id)
    return _emitted(ready)


def _failed(
    ready: checkpoint_pb2.CheckpointReady, failure: TrainingFailure, *, evidence: Artifact
) -> checkpoint_pb2.TrainingFailed:
    return checkpoint_pb2.TrainingFailed(
        position=ready.position,
        kind=ready.kind,
        plan_id=ready.plan_id,
        run_spec=ready.run_spec,
        cause=_CAUSES[failure.cause],
        reason=failure.reason,
        step=failure.step,
        loss=failure.last_losses[-1] if failure.last_losses else 0.0,
        gradient_norm=failure.gradient_norms[-1][1] if failure.gradient_norms else 0.0,
        evidence=artifact_ref(evidence),
        metering=common_pb2.Metering(
            wall_s=failure.wall_s, gpu_s=failure.gpu_s, token_count=failure.token_count, flops=failure.flops
        ),
        gpu_s_limit=(failure.gpu_s_limit or 0.0) if failure.cause == "budget" else 0.0,
    )


def _add_training(
    ready: checkpoint_pb2.CheckpointReady, job: TrainingJob, *, limit: float | None, ports: Ports, event: Event
) -> None:
    """Put the trained checkpoint, its report and its cost into the event, and the checkpoint into the lineage."""
    finished = _trained(job, limit=limit, ports=ports, event=event, run_id=ready.position.run_id)
    report = TrainingReport.load(ports.store, finished.report)
    ready.checkpoint.CopyFrom(artifact_ref(finished.checkpoint))
    ready.training_report.CopyFrom(artifact_ref(finished.report))
    ready.metering.CopyFrom(
        common_pb2.Metering(
            wall_s=report.wall_s, gpu_s=finished.gpu_s, token_count=report.token_count, flops=report.flops
        )
    )
    inputs = [f"checkpoint:{job.start.sha256}"]
    if ready.plan_id:
        batch = [f"batch:{job.batch.sha256}"] if job.batch else []
        inputs = [f"plan:{ready.plan_id}", *batch, *inputs]
    name = f"checkpoint:{finished.checkpoint.sha256}"
    record(ports.store, Node(name, ready.position.run_id, tuple(inputs), _facts(report, ready=ready)))


def _trained(job: TrainingJob, *, limit: float | None, ports: Ports, event: Event, run_id: str) -> Finished:
    """The job's result; trains only where no event, run or process has trained the same job before."""
    finished = find_finished(ports.store, job, gpu_s_limit=limit)
    if finished is None:
        with _forgetting(job, ports=ports, run_id=run_id), ports.backend.hold(job, is_stopping=event.is_stopping):
            # another process may have finished it while we waited
            finished = find_finished(ports.store, job, gpu_s_limit=limit)
            if finished is None:
                trained = ports.backend.train(job, is_stopping=event.is_stopping, gpu_s_limit=limit)
                finished = keep_finished(ports.store, trained)
    ports.backend.forget(job)
    return finished


@contextmanager
def _forgetting(job: TrainingJob, *, ports: Ports, run_id: str) -> Iterator[None]:
    """Leaves no resume point of a run that is over, whether it trains now or trained before a kill."""
    try:
        if has_ended(ports.store, run_id):
            raise Interrupted(f"run {run_id} is over; job {job.job_id} is not trained")
        yield
    except Interrupted:
        if has_ended(ports.store, run_id):
            ports.backend.forget(job)
        raise


def _record_start(store: ArtifactStore, start: Artifact, *, run_id: str) -> None:
    """The base stands in the lineage; where another run made it, its history stays."""
    name = f"checkpoint:{start.sha256}"
    if find(store, name) is None:
        record(store, Node(name, run_id, (), {"kind": "base"}))


def _facts(report: TrainingReport, *, ready: checkpoint_pb2.CheckpointReady) -> Mapping[str, object]:
    is_base = ready.kind == checkpoint_pb2.CHECKPOINT_KIND_BASE
    return {
        "kind": "base" if is_base else "candidate",
        "job_id": report.job.job_id,
        "steps": report.step_count,
        "tokens": report.token_count,
        "last_loss": report.loss_curve[-1][1],
        "replay_share": report.job.replay_share,
        "stopped_early": report.stopped_early,
    }


def _emitted(ready: checkpoint_pb2.CheckpointReady) -> Emit:
    return Emit(ready, key=ready.position.run_id, subject=ready.position.run_id)
