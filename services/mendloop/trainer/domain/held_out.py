"""Owns the losses on the held-out part and says when they improve no more. Knows numbers; knows no model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class HeldOutLosses:
    """(step, loss) of data that no step sees; the training ends after `patience` losses in a row without a new lowest.

    patience 0 never ends a training. Its state is JSON, so it survives a crash.
    """

    def __init__(self, *, patience: int, state: Mapping[str, Any] | None = None) -> None:
        self._patience = patience
        points = (state or {}).get("points", [])
        self._points: list[tuple[int, float]] = [(int(step), float(loss)) for step, loss in points]

    def add(self, step: int, loss: float) -> None:
        """Take the loss after a step."""
        self._points.append((step, loss))

    def points(self) -> tuple[tuple[int, float], ...]:
        """All losses, by step."""
        return tuple(self._points)

    @property
    def lowest_step(self) -> int:
        """The step of the lowest loss, the first of equal ones; 0 before any."""
        return self._points[self._best()][0] if self._points else 0

    def reason_to_stop(self) -> str:
        """Why the training shall end now; empty where it shall go on."""
        if not self._patience or not self._points:
            return ""
        best = self._best()
        waited = len(self._points) - 1 - best
        if waited < self._patience:
            return ""
        step, loss = self._points[best]
        last = self._points[-1]
        return (
            f"early stop at step {last[0]}: held-out loss {last[1]:.4g}, lowest {loss:.4g} at step {step}, "
            f"{waited} measurements without a lower one (patience {self._patience}); "
            f"the weights of step {step} are kept"
        )

    def state(self) -> dict[str, Any]:
        """Everything that a later HeldOutLosses needs to go on."""
        return {"points": [list(point) for point in self._points]}

    def _best(self) -> int:
        return min(range(len(self._points)), key=lambda at: self._points[at][1])
