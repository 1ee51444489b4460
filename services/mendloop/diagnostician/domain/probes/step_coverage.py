"""Do the slice's training examples show the steps of their answers? Needs a family that knows worked steps."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from mendloop.core.records import Example, Item
from mendloop.core.task_hooks import Stepwise
from mendloop.core.tasks import matches
from mendloop.diagnostician.domain.case import Case
from mendloop.diagnostician.domain.evidence import Evidence, missing, share
from mendloop.diagnostician.domain.probing import CostClass

NAME = "step_coverage"
STEPLESS = "stepless_share"
REST = "rest_stepless_share"
FEWEST = 2
"""An answer of one step has none to leave out."""
MOST = 200
"""Examples looked at in and outside the slice: 0 of 200 has the interval 0 to .018."""


class StepCoverage:
    """Counts training examples whose completion has less than half of the steps that lead to its answer."""

    name = NAME
    cost_class = CostClass.STORED

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """The share inside the slice and outside, of examples whose answer takes two steps or more."""
        rng = random.Random(case.seed)
        inside = [row for row in case.corpus if matches(row.axes, case.conditions)]
        outside = [row for row in case.corpus if not matches(row.axes, case.conditions)]
        return tuple(
            _row(case, measurement, rng.sample(rows, min(MOST, len(rows))), words)
            for measurement, rows, words in ((STEPLESS, inside, "of the slice"), (REST, outside, "outside the slice"))
        )


def _row(case: Case, measurement: str, rows: Sequence[Example], words: str) -> Evidence:
    if not isinstance(case.task, Stepwise):
        return missing(NAME, measurement, reading="The task family knows no steps.")
    shown = list(_shown(case.task, rows))
    if not shown:
        return missing(NAME, measurement, reading=f"No training example {words} takes {FEWEST} steps or more.")
    bare = sum(part < 0.5 for part in shown)
    reading = f"{bare} of {len(shown)} training examples {words} give their answer without most of its steps."
    return share(NAME, measurement, bare, len(shown), reading=reading)


def _shown(task: Stepwise, rows: Sequence[Example]) -> Iterator[float]:
    """For each example with steps the share of them, the last one apart, that its completion holds."""
    for at, row in enumerate(rows):
        steps = task.worked_steps(Item(f"training-{at}", row.prompt, row.completion, "search", axes=row.axes))
        before = [" ".join(step.split()) for step in steps[:-1]]
        if len(steps) >= FEWEST:
            text = " ".join(row.completion.split())
            yield sum(step in text for step in before) / len(before)
