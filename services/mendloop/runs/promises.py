"""Promoted checkpoints that a later measurement finds worse. Pure: evaluations in, counts out.

At promotion the accuracy of each slice is kept. A later evaluation of the same checkpoint has other items, so the
comparison is unpaired: a slice has regressed where the later 95 % interval lies wholly below the earlier one. Where
nothing changed, that happens to fewer than 3 in 1,000 slices (two intervals that do not touch: z >= 2.77, one side).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from mendloop.runs.parts import Evaluation
from mendloop.runs.values import Accuracy

MOST_CHECKPOINTS = 1000
ALL_ITEMS = ""


class Promises:
    """What promoted checkpoints could do when they were promoted, and the slices that were measured worse since."""

    def __init__(self) -> None:
        self._promised: OrderedDict[str, tuple[str, Mapping[str, Accuracy]]] = OrderedDict()
        self._regressed: dict[str, frozenset[str]] = {}

    def promoted(self, checkpoint: str, evaluation: Evaluation) -> None:
        """A checkpoint (by SHA-256) was promoted on this evaluation."""
        self._promised[checkpoint] = (evaluation.evaluation_id, _accuracies(evaluation))
        while len(self._promised) > MOST_CHECKPOINTS:
            self.taken_back(next(iter(self._promised)))

    def measured(self, checkpoint: str, evaluation: Evaluation) -> None:
        """The checkpoint was measured again; the newest measurement counts."""
        known = self._promised.get(checkpoint)
        if known is None or known[0] == evaluation.evaluation_id:
            return
        now = _accuracies(evaluation)
        worse = {name for name, then in known[1].items() if name in now and now[name].n and now[name].high < then.low}
        self._regressed[checkpoint] = frozenset(worse)

    def taken_back(self, checkpoint: str) -> None:
        """The promotion was taken back, or is too old to be kept."""
        self._promised.pop(checkpoint, None)
        self._regressed.pop(checkpoint, None)

    @property
    def regressed_count(self) -> int:
        """Slices of promoted checkpoints that are worse than promised."""
        return sum(map(len, self._regressed.values()))


def _accuracies(evaluation: Evaluation) -> dict[str, Accuracy]:
    return {ALL_ITEMS: evaluation.accuracy, **{score.slice.slice_id: score.accuracy for score in evaluation.slices}}
