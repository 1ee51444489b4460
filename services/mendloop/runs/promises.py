"""Promoted checkpoints that a later measurement finds worse. Pure: evaluations in, slices out.

At promotion the accuracy of each slice is kept. A later evaluation of the same checkpoint has other items, so the
comparison is unpaired: a slice has regressed where the later 95 % interval lies wholly below the earlier one. Where
nothing changed, that happens to fewer than 3 in 1,000 slices (two intervals that do not touch: z >= 2.77, one side).
"""

from __future__ import annotations

from collections.abc import Mapping

from mendloop.runs.parts import Evaluation
from mendloop.runs.values import Accuracy

MOST_CHECKPOINTS = 1000
ALL_ITEMS = ""


def promised(evaluation: Evaluation) -> dict[str, float]:
    """The lower end of each slice's interval, and of all items' under ALL_ITEMS."""
    return {name: accuracy.low for name, accuracy in _accuracies(evaluation).items()}


def regressed(lows: Mapping[str, float], now: Evaluation) -> frozenset[str]:
    """The slices that are worse than was promised."""
    found = _accuracies(now)
    return frozenset(name for name, low in lows.items() if name in found and found[name].n and found[name].high < low)


def _accuracies(evaluation: Evaluation) -> dict[str, Accuracy]:
    return {ALL_ITEMS: evaluation.accuracy, **{score.slice.slice_id: score.accuracy for score in evaluation.slices}}
