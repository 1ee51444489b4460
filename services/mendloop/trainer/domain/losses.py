"""Owns the loss curve and says when a training has diverged. Knows numbers; knows no tensor."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from mendloop.core.errors import Permanent
from mendloop.core.training import FailureCause

RECENT_COUNT = 5
GROWTH = 3.0
CLIMB_STEPS = 20
"""Steps in a row that are worse than guessing and than GROWTH times the start: no spike lasts so long."""
_EMPTY: Mapping[str, Any] = {
    "points": [],
    "pending": [],
    "recent": [],
    "first": None,
    "step": 0,
    "climbing": 0,
    "norms": [],
    "pending_norms": [],
    "norm_step": 0,
}


class Diverged(Permanent):
    """A training that cannot go on: cause and step; what led there stands in its curve."""

    def __init__(self, reason: str, *, cause: FailureCause, step: int) -> None:
        super().__init__(reason)
        self.cause, self.step = cause, step


def curve_interval(step_count: int) -> int:
    """Steps per point of the curve: about fifty points, at most ten steps a point."""
    return min(10, max(1, step_count // 50))


class LossCurve:
    """The mean loss and the largest gradient norm of every `every` steps. Its state is JSON, so it survives a crash.

    Losses are in nats per labelled token, or per row for preferences; guessing costs ln of vocabulary_size.
    """

    def __init__(self, *, every: int, vocabulary_size: int, state: Mapping[str, Any] | None = None) -> None:
        known = {**_EMPTY, **(state or {})}
        self.every, self._guess = every, math.log(max(vocabulary_size, 2))
        self._points: list[tuple[int, float]] = [(int(step), float(loss)) for step, loss in known["points"]]
        self._pending: list[float] = list(known["pending"])
        self._recent: list[float] = list(known["recent"])
        self._first: float | None = known["first"]
        self._step: int = known["step"]
        self._climbing: int = known["climbing"]
        self._norms: list[tuple[int, float]] = [(int(step), float(norm)) for step, norm in known["norms"]]
        self._pending_norms: list[float] = list(known["pending_norms"])
        self._norm_step: int = known["norm_step"]
        self._bad_norm: tuple[int, float] | None = None

    def add(self, losses: Iterable[float]) -> None:
        """Take the losses of the next steps.

        Raises Diverged, with step and last losses, for a loss or a gradient norm that is no number; where the mean of
        a point is both three times the first loss and twice the loss of guessing (ln of the vocabulary size); and where
        twenty steps in a row are above three times the first loss and above guessing.
        """
        for loss in losses:
            self._step += 1
            self._recent = [*self._recent[1 - RECENT_COUNT :], loss]
            if not math.isfinite(loss):
                reason = f"the loss became {loss} at step {self._step}; {self._history()}; lower learning_rate"
                raise Diverged(reason, cause="not_finite", step=self._step)
            self._first = loss if self._first is None else self._first
            self._pending.append(loss)
            self._watch_climb(loss)
            if self._step % self.every == 0:
                self._close_point()
        if self._bad_norm is not None:
            step, norm = self._bad_norm
            reason = f"the gradient norm became {norm} at step {step}; {self._history()}; lower learning_rate"
            raise Diverged(reason, cause="not_finite", step=step)

    def add_norms(self, norms: Iterable[float]) -> None:
        """Take the gradient norms, before clipping, of the next steps; `add` judges them."""
        for norm in norms:
            self._norm_step += 1
            self._pending_norms.append(norm)
            if not math.isfinite(norm) and self._bad_norm is None:
                self._bad_norm = (self._norm_step, norm)
            if self._norm_step % self.every == 0:
                self._norms.append((self._norm_step, _largest(self._pending_norms)))
                self._pending_norms = []

    def points(self) -> tuple[tuple[int, float], ...]:
        """(step, mean loss of the steps since the point before), the unfinished last point included."""
        if not self._pending:
            return tuple(self._points)
        return (*self._points, (self._step, math.fsum(self._pending) / len(self._pending)))

    def norms(self) -> tuple[tuple[int, float], ...]:
        """(step, largest gradient norm of the steps since the point before), the unfinished last point included."""
        if not self._pending_norms:
            return tuple(self._norms)
        return (*self._norms, (self._norm_step, _largest(self._pending_norms)))

    def recent(self) -> tuple[float, ...]:
        """The last losses, step by step."""
        return tuple(self._recent)

    def state(self) -> dict[str, Any]:
        """Everything that a later LossCurve needs to go on."""
        return {
            "points": [list(point) for point in self._points],
            "pending": list(self._pending),
            "recent": list(self._recent),
            "first": self._first,
            "step": self._step,
            "climbing": self._climbing,
            "norms": [list(point) for point in self._norms],
            "pending_norms": list(self._pending_norms),
            "norm_step": self._norm_step,
        }

    def _watch_climb(self, loss: float) -> None:
        assert self._first is not None
        bound = max(self._guess, GROWTH * self._first)
        self._climbing = self._climbing + 1 if loss > bound else 0
        if self._climbing == CLIMB_STEPS:
            reason = (
                f"the training diverged: {CLIMB_STEPS} losses in a row above {bound:.3g} at step {self._step}, "
                f"{self._first:.3g} at step 1; {self._history()}; lower learning_rate"
            )
            raise Diverged(reason, cause="diverged", step=self._step)

    def _close_point(self) -> None:
        mean = math.fsum(self._pending) / len(self._pending)
        assert self._first is not None
        if mean > max(2 * self._guess, GROWTH * self._first):
            reason = (
                f"the training diverged: mean loss {mean:.3g} at step {self._step}, {self._first:.3g} at step 1; "
                f"{self._history()}; lower learning_rate"
            )
            raise Diverged(reason, cause="diverged", step=self._step)
        self._points.append((self._step, mean))
        self._pending = []

    def _history(self) -> str:
        return f"last losses {', '.join(f'{loss:.4g}' for loss in self._recent)}"


def _largest(norms: list[float]) -> float:
    """The largest one, or one that is no number."""
    return next((norm for norm in norms if not math.isfinite(norm)), max(norms))
