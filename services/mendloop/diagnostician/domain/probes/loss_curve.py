"""How the training loss went: still falling, rising, or not a number. Reads the training report; asks no model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from mendloop.diagnostician.domain.case import Case
from mendloop.diagnostician.domain.evidence import Evidence, exact, missing
from mendloop.diagnostician.domain.probing import CostClass

NAME = "loss_curve"
LAST = "last_nats"
LATE_DROP = "late_drop"
RISE = "rise"
FINITE = "is_finite"
WINDOWS = 8
"""Losses are means over eighths of the curve: the last step alone is one batch's luck."""
FLOOR_NATS = 0.01
"""Below this a loss is learnt: ratios of smaller ones are noise."""
MOST_NATS = 100.0
"""Stands for an infinite loss and for NaN, because evidence is finite."""


class LossCurve:
    """Says where the loss ended, how much it fell in the last quarter, and how far it lies above its least."""

    name = NAME
    cost_class = CostClass.STORED

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """last_nats, late_drop (share of the loss at three quarters), rise (last over least), is_finite (0 or 1)."""
        curve = case.training.loss_curve if case.training else ()
        if not curve:
            why = "The training report holds no losses." if case.training else "There is no training report."
            return tuple(missing(NAME, row, reading=why) for row in (LAST, LATE_DROP, RISE, FINITE))
        losses = [loss for _, loss in sorted(curve)]
        means = _means([min(loss, MOST_NATS) if math.isfinite(loss) else MOST_NATS for loss in losses])
        last, least, before = means[-1], min(means), means[-1 - len(means) // 4]
        broken = [step for step, loss in sorted(curve) if not math.isfinite(loss)]
        n, steps = len(losses), sorted(curve)[-1][0]
        drop = (before - last) / max(before, FLOOR_NATS)
        rise = max(last, FLOOR_NATS) / max(least, FLOOR_NATS)
        whole = f"Training loss is no number from step {broken[0]} on." if broken else f"All {n} losses are finite."
        return (
            exact(NAME, LAST, last, n, reading=f"Training loss ended at {last:.3g} nats a token after {steps} steps."),
            exact(NAME, LATE_DROP, drop, n, reading=_dropped(before, last, drop)),
            exact(NAME, RISE, rise, n, reading=f"It ended at {rise:.3g} times its least mean ({least:.3g} nats)."),
            exact(NAME, FINITE, float(not broken), n, reading=whole),
        )


def _means(losses: Sequence[float]) -> list[float]:
    """Means over up to WINDOWS parts of equal length, the last part whole."""
    count = min(WINDOWS, len(losses))
    ends = [len(losses) * at // count for at in range(count + 1)]
    return [sum(losses[start:end]) / (end - start) for start, end in pairwise(ends)]


def _dropped(before: float, last: float, drop: float) -> str:
    words = f"fell by {drop:.0%}" if drop >= 0 else f"rose by {-drop:.0%}"
    return f"In the last quarter of its training the loss {words} ({before:.3g} to {last:.3g} nats)."
