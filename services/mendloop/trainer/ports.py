"""What the handlers ask of a training backend."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from mendloop.artifacts.store import Artifact
from mendloop.core.errors import Permanent
from mendloop.core.training import TrainingFailure, TrainingJob, TrainingReport


class TrainingFailed(Permanent):
    """A training became no checkpoint for a reason that its evidence shows; it would fail again."""

    def __init__(self, failure: TrainingFailure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Trained:
    """A stored checkpoint, how it came about, and the GPU-seconds that it cost (0 on a CPU)."""

    checkpoint: Artifact
    report: TrainingReport
    gpu_s: float


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is: its newest figures. held_out_loss is None until it is measured."""

    step: int
    loss: float
    gradient_norm: float
    tokens_per_s: float
    held_out_loss: float | None


class TrainingBackend(Protocol):
    """Trains one job at a time."""

    def hold(self, job: TrainingJob, *, is_stopping: Callable[[], bool]) -> AbstractContextManager[None]:
        """Keep other processes of this machine from training the job. Interrupted where stopped while waiting."""

    def train(self, job: TrainingJob, *, is_stopping: Callable[[], bool], gpu_s_limit: float | None = None) -> Trained:
        """Train, or go on where a killed attempt stopped.

        Raises TrainingFailed where the training diverges, its data is unhealthy, or its GPU-seconds are spent; other
        errors as in mendloop.core.errors.
        """

    def forget(self, job: TrainingJob) -> None:
        """Delete what the job left on this machine; its result is kept in the store."""
