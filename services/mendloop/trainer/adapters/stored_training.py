"""The training backend of a service: artifacts in, artifacts out, the Hugging Face Trainer between.

torch and transformers load in the background or with the first job, so that the service itself starts at once.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from mendloop.artifacts.store import ArtifactStore
from mendloop.artifacts.tables import get_rows
from mendloop.core.records import Example
from mendloop.core.telemetry import Telemetry
from mendloop.core.training import TrainingJob
from mendloop.models.checkpoint import open_checkpoint, save_checkpoint
from mendloop.trainer.adapters.faults import full_disk_is_retryable
from mendloop.trainer.adapters.resume_points import forget_points, job_lock
from mendloop.trainer.finished import NAMESPACE
from mendloop.trainer.ports import Trained

log = logging.getLogger(__name__)


class StoredTraining:
    """Trains jobs whose artifacts lie in a store. Resume points lie in work_dir/training/<job_id>."""

    def __init__(self, store: ArtifactStore, *, work_dir: Path, telemetry: Telemetry, torch_threads: int = 0) -> None:
        self._store, self._telemetry, self._torch_threads = store, telemetry, torch_threads
        self._points, self._cache = work_dir / "training", work_dir / "checkpoints"

    def hold(self, job: TrainingJob, *, is_stopping: Callable[[], bool]) -> AbstractContextManager[None]:
        """Hold the job's lock on this machine."""
        return job_lock(self._points / job.job_id, is_stopping=is_stopping)

    def train(self, job: TrainingJob, *, is_stopping: Callable[[], bool]) -> Trained:
        """Train and store the checkpoint; run_job says which errors it raises."""
        from mendloop.trainer.adapters.hf_training import run_job, uses_gpu  # seconds of imports

        out_dir = self._points / job.job_id / "out"
        shutil.rmtree(out_dir, ignore_errors=True)
        with full_disk_is_retryable(self._points):
            report = run_job(
                job,
                start_dir=open_checkpoint(self._store, job.start, cache=self._cache),
                corpus=get_rows(self._store, job.corpus, kind=Example),
                batch=get_rows(self._store, job.batch, kind=Example) if job.batch else None,
                work_dir=self._points,
                out_dir=out_dir,
                is_stopping=is_stopping,
                on_step=self._count,
                torch_threads=self._torch_threads,
            )
            checkpoint = save_checkpoint(self._store, out_dir)
        return Trained(checkpoint, report, gpu_s=report.wall_s if uses_gpu() else 0.0)

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

    def _count(self, step: int, token_count: int) -> None:
        self._telemetry.add("mendloop_tokens", token_count, use="train")
