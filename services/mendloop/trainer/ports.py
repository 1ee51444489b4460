"""What the handlers ask of a training backend."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from mendloop.artifacts.store import Artifact
from mendloop.core.training import TrainingJob, TrainingReport


@dataclass(frozen=True, slots=True)
class Trained:
    """A stored checkpoint, how it came about, and the GPU-seconds that it cost (0 on a CPU)."""

    checkpoint: Artifact
    report: TrainingReport
    gpu_s: float


class TrainingBackend(Protocol):
    """Trains one job at a time."""

    def hold(self, job: TrainingJob, *, is_stopping: Callable[[], bool]) -> AbstractContextManager[None]:
        """Keep other processes of this machine from training the job. Interrupted where stopped while waiting."""

    def train(self, job: TrainingJob, *, is_stopping: Callable[[], bool]) -> Trained:
        """Train, or go on where a killed attempt stopped. Errors as in mendloop.core.errors."""

    def forget(self, job: TrainingJob) -> None:
        """Delete what the job left on this machine; its result is kept in the store."""
