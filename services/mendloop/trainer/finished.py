"""Owns the memory of finished jobs: jobs/<job_id> holds checkpoint and report, or the failure. Knows no event.

A job that its limit stopped is not finished: it lies in stopped_jobs, and one with more GPU-seconds is trained anew.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.core.training import TrainingFailure, TrainingJob
from mendloop.trainer.ports import Trained, TrainingFailed

NAMESPACE, STOPPED = "jobs", "stopped_jobs"


@dataclass(frozen=True, slots=True)
class Finished:
    """The result of a job, as every later request for the same job gets it."""

    checkpoint: Artifact
    report: Artifact
    gpu_s: float


def find_finished(store: ArtifactStore, job: TrainingJob, *, gpu_s_limit: float | None = None) -> Finished | None:
    """The result of the job, whoever asked for it before, or None.

    Raises TrainingFailed where it failed before, or where no more GPU-seconds than these were too few.
    """
    raw = store.get_doc(NAMESPACE, job.job_id)
    if raw is None:
        _refuse_again(store, job, gpu_s_limit=gpu_s_limit)
        return None
    document = json.loads(raw)
    if "failure" in document:
        raise TrainingFailed(TrainingFailure.load(store, Artifact(**document["failure"])))
    return Finished(Artifact(**document["checkpoint"]), Artifact(**document["report"]), document["gpu_s"])


def keep_finished(store: ArtifactStore, trained: Trained) -> Finished:
    """Keep a result under its job's id."""
    finished = Finished(trained.checkpoint, trained.report.store(store), trained.gpu_s)
    store.put_doc(NAMESPACE, trained.report.job.job_id, json.dumps(asdict(finished), sort_keys=True).encode())
    return finished


def keep_failure(store: ArtifactStore, failure: TrainingFailure) -> Artifact:
    """Keep a failure under its job's id, so that nothing is trained to the same end again; its evidence."""
    evidence = failure.store(store)
    document = {"failure": asdict(evidence)}
    namespace = STOPPED if failure.cause == "budget" else NAMESPACE
    store.put_doc(namespace, failure.job.job_id, json.dumps(document, sort_keys=True).encode())
    return evidence


def _refuse_again(store: ArtifactStore, job: TrainingJob, *, gpu_s_limit: float | None) -> None:
    raw = store.get_doc(STOPPED, job.job_id)
    if raw is None or gpu_s_limit is None:
        return
    failure = TrainingFailure.load(store, Artifact(**json.loads(raw)["failure"]))
    if failure.gpu_s_limit is not None and gpu_s_limit <= failure.gpu_s_limit:
        raise TrainingFailed(failure)
