"""Owns the loss curve and says when a training has diverged. Knows numbers; knows no tensor."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from mendloop.core.errors import Permanent

RECENT_COUNT = 5
GROWTH = 3.0


def curve_interval(step_count: int) -> int:
    """Steps per point of the curve: about fifty points, at most ten steps a point."""
    return min(10, max(1, step_count // 50))


class LossCurve:
    """The mean loss of every `every` steps, in nats per labelled token. Its state is JSON, so it survives a crash."""

    def __init__(self, *, every: int, vocabulary_size: int, state: Mapping[str, Any] | None = None) -> None:
        known = state or {"points": [], "pending": [], "recent": [], "first": None, "step": 0}
        self.every, self._ceiling = every, 2 * math.log(max(vocabulary_size, 2))
        self._points: list[tuple[int, float]] = [(int(step), float(loss)) for step, loss in known["points"]]
        self._pending: list[float] = list(known["pending"])
        self._recent: list[float] = list(known["recent"])
        self._first: float | None = known["first"]
        self._step: int = known["step"]

    def add(self, losses: Iterable[float]) -> None:
        """Take the losses of the next steps.

        Raises Permanent, with step and last losses, for a loss that is no number, or where the mean of a point is both
        three times the first loss and twice the loss of guessing (ln of the vocabulary size): training has diverged.
        """
        for loss in losses:
            self._step += 1
            self._recent = [*self._recent[1 - RECENT_COUNT :], loss]
            if not math.isfinite(loss):
                raise Permanent(f"the loss became {loss} at step {self._step}; {self._history()}; lower learning_rate")
            self._first = loss if self._first is None else self._first
            self._pending.append(loss)
            if self._step % self.every == 0:
                self._close_point()

    def points(self) -> tuple[tuple[int, float], ...]:
        """(step, mean loss of the steps since the point before), the unfinished last point included."""
        if not self._pending:
            return tuple(self._points)
        return (*self._points, (self._step, math.fsum(self._pending) / len(self._pending)))

    def state(self) -> dict[str, Any]:
        """Everything that a later LossCurve needs to go on."""
        return {
            "points": [list(point) for point in self._points],
            "pending": list(self._pending),
            "recent": list(self._recent),
            "first": self._first,
            "step": self._step,
        }

    def _close_point(self) -> None:
        mean = math.fsum(self._pending) / len(self._pending)
        assert self._first is not None
        if mean > max(self._ceiling, GROWTH * self._first):
            raise Permanent(
                f"the training diverged: mean loss {mean:.3g} at step {self._step}, {self._first:.3g} at step 1; "
                f"{self._history()}; lower learning_rate"
            )
        self._points.append((self._step, mean))
        self._pending = []

    def _history(self) -> str:
        return f"last losses {', '.join(f'{loss:.4g}' for loss in self._recent)}"
