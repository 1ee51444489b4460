"""Where do the steps of failed outputs go wrong? Reads what the scorer or importer found; asks no model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from mendloop.diagnostician.domain.case import Case, Sample
from mendloop.diagnostician.domain.evidence import Attachment, Evidence, missing, share
from mendloop.diagnostician.domain.probing import CostClass

NAME = "step_check"
WRONG_STEP = "wrong_step_share"
PASSING = "wrong_step_passing"
NAMED = 3
"""Operations that the reading names."""


class StepCheck:
    """Counts failed outputs in which a step was found wrong, by its operation; right outputs are the control."""

    name = NAME
    cost_class = CostClass.STORED

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """Per sample: share with a wrong step among failed and among right outputs; n = 0 where none was looked at."""
        if not any(row.first_wrong_step is not None for sample in case.samples for row in sample.outcomes):
            why = "No step of any output was found wrong: either nobody looked or steps cannot be judged."
            return tuple(missing(NAME, WRONG_STEP, reading=why, sample=sample.name) for sample in case.samples)
        return tuple(row for sample in case.samples for row in _rows(sample))


def _rows(sample: Sample) -> Iterator[Evidence]:
    wrong = [row for row in sample.failed if row.outcome.first_wrong_step is not None]
    tally = Counter(row.outcome.wrong_operation or "unnamed" for row in wrong)
    common = ", ".join(f"{operation} {count}" for operation, count in tally.most_common(NAMED))
    named = f" ({common})" if common else ""
    reading = f"In {len(wrong)} of {len(sample.failed)} failed outputs a step is wrong{named}."
    found = share(NAME, WRONG_STEP, len(wrong), len(sample.failed), sample=sample.name, reading=reading)
    yield _with_table(found, tally) if wrong else found
    also = sum(row.outcome.first_wrong_step is not None for row in sample.passing)
    reading = f"In {also} of {len(sample.passing)} right outputs a step is called wrong, too."
    yield share(NAME, PASSING, also, len(sample.passing), sample=sample.name, reading=reading)


def _with_table(row: Evidence, tally: Counter[str]) -> Evidence:
    rows = [list(pair) for pair in tally.most_common()]
    columns = ["first wrong operation", "failures"]
    return replace(row, attachment=Attachment("first wrong operation", "table", {"columns": columns, "rows": rows}))
