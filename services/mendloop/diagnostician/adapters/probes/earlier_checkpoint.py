"""Was the checkpoint that the training started from right on these items? Shows what a training lost, not why.

A failed item counts only where its output now is wrong in any form: what the scorer refuses was not lost.
"""

from __future__ import annotations

from mendloop.diagnostician.adapters.probes.counterfactual import (
    both,
    cannot,
    failed,
    passing,
    right_ids,
    shares,
    wrong_ids,
)
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
        lost = right & wrong_ids(case, both(case, failed))
        words = "were right before this training, by its start checkpoint"
        return (
            *shares(case, NAME, RIGHT, lost, f"{words}, and are wrong now, whatever the scorer or their end."),
            *shares(case, NAME, PASSING, right, f"{words}.", group=passing),
        )
