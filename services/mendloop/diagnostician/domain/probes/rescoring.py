"""Does a second, lenient scorer accept failed outputs? Reads stored outputs; asks no model.

Only outputs that ended by themselves count, and not where their target would end: running on is no fault of the scorer.
"""

from __future__ import annotations

from collections.abc import Iterator

from mendloop.diagnostician.domain.case import Case, Sample
from mendloop.diagnostician.domain.cutting import is_right_when_cut
from mendloop.diagnostician.domain.evidence import Evidence, share
from mendloop.diagnostician.domain.probing import CostClass

NAME = "rescoring"
RESCUED = "rescued_share"
NOT_EXTRACTED = "not_extracted_share"
MISMATCHED = "accepted_mismatched_share"


class Rescoring:
    """Scores failed outputs again, and as a control against the target of another failed item."""

    name = NAME
    cost_class = CostClass.STORED

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """Per sample: share accepted, share accepted where nothing had been extracted, share accepted by mistake."""
        return tuple(row for sample in case.samples for row in _rows(case, sample))


def _rows(case: Case, sample: Sample) -> Iterator[Evidence]:
    n = len(sample.failed)
    ended = [row for row in sample.failed if row.outcome.stop_reason != "length"]
    whole = [row for row in ended if not is_right_when_cut(case.task, row.item, row.outcome.output)]
    rescued = [row for row in whole if case.task.rescore(row.item, row.outcome.output).value >= 1]
    silent = sum(row.outcome.extraction == "none" for row in rescued)
    yield share(
        NAME,
        RESCUED,
        len(rescued),
        n,
        sample=sample.name,
        reading=f"The second scorer accepts {len(rescued)} of {n} failed outputs "
        f"({n - len(ended)} ran to the token limit, {len(ended) - len(whole)} say more than a right beginning: "
        "these do not count).",
    )
    yield share(
        NAME,
        NOT_EXTRACTED,
        silent,
        n,
        sample=sample.name,
        reading=f"In {silent} of {n} failed outputs the second scorer finds the answer and the suite's found none.",
    )
    yield _control(case, sample)


def _control(case: Case, sample: Sample) -> Evidence:
    """Each output against the target of the next failed item with another target: a sound scorer accepts none."""
    pairs = [
        (other.item, row.outcome.output)
        for row, other in zip(sample.failed, sample.failed[1:] + sample.failed[:1], strict=True)
        if other.item.target != row.item.target and row.outcome.stop_reason != "length"
    ]
    wrong = sum(case.task.rescore(item, output).value >= 1 for item, output in pairs)
    reading = f"Against another item's target the second scorer accepts {wrong} of {len(pairs)} outputs."
    if not pairs:
        reading = "No two failed outputs that ended have different targets: the second scorer has no control."
    return share(NAME, MISMATCHED, wrong, len(pairs), sample=sample.name, reading=reading)
