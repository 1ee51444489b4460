"""Was the checkpoint that the training started from right on these items? Shows what a training lost, not why.

An evaluation fault breaks both checkpoints alike, and a skill that was never there is right in neither.
"""

from __future__ import annotations

from mendloop.diagnostician.adapters.probes.counterfactual import both, cannot, failed, passing, right_ids, shares
from mendloop.diagnostician.domain.case import Case
from mendloop.diagnostician.domain.evidence import Evidence
from mendloop.diagnostician.domain.probing import CostClass

NAME = "earlier_checkpoint"
RIGHT = "right_share"
PASSING = "passing_right_share"


class EarlierCheckpoint:
    """Puts failed and passing items to the start checkpoint in the declared template."""

    name = NAME
    cost_class = CostClass.GENERATED

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """Per sample: shares of failed and of passing items that the start checkpoint gets right."""
        if case.earlier is None:
            why = "The checkpoint that the training started from is not at hand, or was never trained."
            return cannot(case, NAME, (RIGHT, PASSING), why)
        rows = [*both(case, failed), *both(case, passing)]
        right = right_ids(case, case.earlier, rows, [case.template(row.item.prompt) for row in rows])
        words = "were right before this training, by its start checkpoint."
        return (
            *shares(case, NAME, RIGHT, right, words),
            *shares(case, NAME, PASSING, right, words, group=passing),
        )
