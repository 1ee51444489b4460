"""What a training reports to while it runs: curves, clock, pace, and who is told. Knows numbers; knows no model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mendloop.trainer.adapters.best_weights import BestWeights
from mendloop.trainer.adapters.collation import Row
from mendloop.trainer.domain.group_weights import GroupWeights
from mendloop.trainer.domain.held_out import HeldOutLosses
from mendloop.trainer.domain.losses import LossCurve
from mendloop.trainer.ports import Progress

OnStep = Callable[[int, int], None]
"""Called after each step with its number, from 1, and its input tokens without padding."""


@dataclass(slots=True)
class DeviceTime:
    """GPU-seconds of a training, all attempts together, and how many it may take; None: any number."""

    limit_s: float | None = None
    spent_s: Callable[[], float] = lambda: 0.0
    is_over: bool = False
    """Whether the limit ended the training: what all processes agreed on."""

    def is_spent(self) -> bool:
        """Whether no further step may begin."""
        return self.limit_s is not None and self.spent_s() >= self.limit_s


@dataclass(frozen=True, slots=True)
class Watch:
    """What a training reports to, and asks whether to go on."""

    is_stopping: Callable[[], bool]
    on_step: OnStep
    step_tokens: Sequence[int]
    elapsed_s: Callable[[], float]
    on_progress: Callable[[Progress], None] = lambda progress: None
    device: DeviceTime = field(default_factory=DeviceTime)


@dataclass(frozen=True, slots=True)
class Course:
    """What a training's losses are written to. held_out_rows are measured every held_out_every steps.

    best keeps the weights of the lowest held-out loss, where the training may stop early; else None. groups are
    those of group DRO; None without it.
    """

    curve: LossCurve
    held_out: HeldOutLosses
    held_out_rows: Sequence[Row] = field(default=())
    held_out_every: int = 1
    best: BestWeights | None = None
    groups: GroupWeights | None = None


class Pace:
    """Input tokens a second since `begin`; the time until the first step is none of the steps'."""

    def __init__(self, step_tokens: Sequence[int]) -> None:
        self._step_tokens, self._first, self._began = step_tokens, 0, time.monotonic()

    def begin(self, step: int) -> None:
        """The training goes on after this step."""
        self._first, self._began = step, time.monotonic()

    def tokens_per_s(self, step: int) -> float:
        """The mean pace up to this step."""
        seconds = time.monotonic() - self._began
        return sum(self._step_tokens[self._first : step]) / seconds if seconds > 0 else 0.0


def stopwatch(before_s: float) -> Callable[[], float]:
    """Seconds since now, on top of those that earlier attempts took."""
    started = time.monotonic()
    return lambda: before_s + time.monotonic() - started
