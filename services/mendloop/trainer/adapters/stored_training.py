"""The training backend of a service: artifacts in, artifacts out, the Hugging Face Trainer between.

torch and transformers load in the background or with the first job, so that the service itself starts at once.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from mendloop.artifacts.store import ArtifactStore
from mendloop.core.telemetry import Telemetry
from mendloop.core.training import TrainingJob, TrainingReport
from mendloop.models.checkpoint import open_checkpoint, save_checkpoint
from mendloop.trainer.adapters.faults import full_disk_is_retryable
from mendloop.trainer.adapters.processes import WORKER, Request, Strategy, torchrun, train_in_processes
from mendloop.trainer.adapters.resume_points import forget_points, job_lock
from mendloop.trainer.adapters.rows import batch_of, corpus_of
from mendloop.trainer.finished import NAMESPACE
from mendloop.trainer.ports import Progress, Trained, TrainingFailed

log = logging.getLogger(__name__)


class StoredTraining:
    """Trains jobs whose artifacts lie in a store. Resume points lie in work_dir/training/<job_id>."""

    def __init__(
        self,
        store: ArtifactStore,
        *,
        work_dir: Path,
        telemetry: Telemetry,
        torch_threads: int = 0,
        peak_flops: float = 0.0,
        processes: int = 1,
        strategy: Strategy = "ddp",
        worker: str = WORKER,
    ) -> None:
        self._store, self._telemetry = store, telemetry
        self._processes, self._strategy, self._worker = processes, strategy, worker
        self._torch_threads, self._peak_flops = torch_threads, peak_flops
        self._points, self._cache = work_dir / "training", work_dir / "checkpoints"

    def hold(self, job: TrainingJob, *, is_stopping: Callable[[], bool]) -> AbstractContextManager[None]:
        """Hold the job's lock on this machine."""
        return job_lock(self._points / job.job_id, is_stopping=is_stopping)

    def train(self, job: TrainingJob, *, is_stopping: Callable[[], bool], gpu_s_limit: float | None = None) -> Trained:
        """Train and store the checkpoint; run_job says which errors it raises."""
        out_dir = self._points / job.job_id / "out"
        shutil.rmtree(out_dir, ignore_errors=True)
        start_dir = open_checkpoint(self._store, job.start, cache=self._cache)
        train = self._here if self._processes == 1 else self._together
        try:
            with full_disk_is_retryable(self._points):
                report = train(
                    job, start_dir=start_dir, out_dir=out_dir, is_stopping=is_stopping, gpu_s_limit=gpu_s_limit
                )
                checkpoint = save_checkpoint(self._store, out_dir)
        except TrainingFailed as error:
            self._telemetry.add("mendloop_trainings_failed", cause=error.failure.cause)
            raise
        if report.mfu is not None:
            self._telemetry.set("mendloop_training_mfu", report.mfu)
        return Trained(checkpoint, report, gpu_s=self._gpu_s(report))

    def _gpu_s(self, report: TrainingReport) -> float:
        from mendloop.trainer.adapters.hf_training import uses_gpu  # seconds of imports

        return report.wall_s * report.process_count if uses_gpu() else 0.0

    def _here(
        self,
        job: TrainingJob,
        *,
        start_dir: Path,
        out_dir: Path,
        is_stopping: Callable[[], bool],
        gpu_s_limit: float | None,
    ) -> TrainingReport:
        """Train in this process."""
        from mendloop.trainer.adapters.hf_training import run_job  # seconds of imports

        return run_job(
            job,
            start_dir=start_dir,
            corpus=corpus_of(self._store, job),
            batch=batch_of(self._store, job),
            work_dir=self._points,
            out_dir=out_dir,
            is_stopping=is_stopping,
            on_step=self._count,
            on_progress=self._show,
            torch_threads=self._torch_threads,
            peak_flops=self._peak_flops,
            gpu_s_limit=gpu_s_limit,
        )

    def _together(
        self,
        job: TrainingJob,
        *,
        start_dir: Path,
        out_dir: Path,
        is_stopping: Callable[[], bool],
        gpu_s_limit: float | None,
    ) -> TrainingReport:
        """Train in several processes."""
        request = Request(
            job=job,
            store_uri=self._store.uri,
            start_dir=str(start_dir.resolve()),
            work_dir=str(self._points.resolve()),
            out_dir=str(out_dir.resolve()),
            torch_threads=self._torch_threads,
            peak_flops=self._peak_flops,
            strategy=self._strategy,
            parent_pid=os.getpid(),
            gpu_s_limit=gpu_s_limit,
        )
        return train_in_processes(
            request,
            command=torchrun(self._processes, worker=self._worker),
            folder=self._points.resolve() / job.job_id / "processes",
            is_stopping=is_stopping,
            on_step=self._count,
            on_progress=self._show,
        )

    def warm(self) -> None:
        """Load torch and transformers, so that the first job need not."""
        import mendloop.trainer.adapters.hf_training  # noqa: F401

    def forget(self, job: TrainingJob) -> None:
        """Delete the job's resume points."""
        forget_points(self._points / job.job_id)

    def sweep(self) -> None:
        """Delete what a kill between keeping a result and forgetting its resume points has left."""
        for path in self._points.glob("*"):
            if path.is_dir() and self._store.get_doc(NAMESPACE, path.name) is not None:
                log.info("resume points of a finished job deleted", extra={"job_id": path.name})
                forget_points(path)

    def _show(self, progress: Progress) -> None:
        """The newest figures of the training at work, as gauges."""
        self._telemetry.set("mendloop_training_step", progress.step)
        self._telemetry.set("mendloop_training_loss", progress.loss, part="train")
        self._telemetry.set("mendloop_training_gradient_norm", progress.gradient_norm)
        self._telemetry.set("mendloop_training_tokens_per_second", progress.tokens_per_s)
        if progress.held_out_loss is not None:
            self._telemetry.set("mendloop_training_loss", progress.held_out_loss, part="held_out")

    def _count(self, step: int, token_count: int) -> None:
        self._telemetry.add("mendloop_tokens", token_count, use="train")
