"""Does a longer budget rescue outputs that ran to the limit? Tells an answer that is cut off from one without end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mendloop.diagnostician.domain.case import Case, Observation, Sample
from mendloop.diagnostician.domain.evidence import Evidence, exact, missing, share
from mendloop.diagnostician.domain.probing import CostClass
from mendloop.models.asking import scored_text
from mendloop.models.generation import LanguageModel

NAME = "longer_budget"
RESCUED = "rescued_share"
RUNNING = "still_running_share"
BUDGET = "rescuing_budget"
FACTORS = (2, 4)
ENOUGH = 0.9
"""A budget is proposed where it rescues nine in ten of what the longest rescues: a longer one costs every item."""


@dataclass(frozen=True, slots=True)
class _Try:
    """What became of one output; rescued_at is the budget that made it right, 0 where none did."""

    rescued_at: int
    is_running: bool


class LongerBudget:
    """Generates failed items that stopped by length again, with two and four times the tokens."""

    name = NAME
    cost_class = CostClass.GENERATED

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """Per sample: share rescued, share still running; over both: the smallest budget that is enough."""
        if case.model is None:
            why = "There is no model to generate with."
            return tuple(
                missing(NAME, row, reading=why, sample=sample.name)
                for sample in case.samples
                for row in (RESCUED, RUNNING)
            )
        tries = {sample.name: _retry(case, case.model, _cut_off(sample)) for sample in case.samples}
        rows = [row for sample in case.samples for row in _rows(case, sample, tries[sample.name])]
        return (*rows, _budget(one for group in tries.values() for one in group))


def _cut_off(sample: Sample) -> list[Observation]:
    return [row for row in sample.failed if row.outcome.stop_reason == "length"]


def _retry(case: Case, model: LanguageModel, rows: Sequence[Observation]) -> list[_Try]:
    tries = {row.item.item_id: _Try(0, True) for row in rows}
    for factor in FACTORS:
        budget = factor * case.suite.max_new_tokens
        waiting = [row for row in rows if tries[row.item.item_id].is_running]
        if not waiting:
            break
        prompts = [case.template(row.item.prompt) for row in waiting]
        outputs = model.generate(prompts, max_new_tokens=budget, stop=case.task.stop_strings)
        for row, output in zip(waiting, outputs, strict=True):
            is_right = case.task.score(row.item, scored_text(case.task, output)).value >= 1
            is_running = output.stop_reason == "length" and not is_right
            tries[row.item.item_id] = _Try(budget if is_right else 0, is_running)
    return list(tries.values())


def _rows(case: Case, sample: Sample, tries: Sequence[_Try]) -> Iterator[Evidence]:
    n, longest = len(sample.failed), FACTORS[-1] * case.suite.max_new_tokens
    rescued = sum(one.rescued_at > 0 for one in tries)
    running = sum(one.is_running for one in tries)
    yield share(
        NAME,
        RESCUED,
        rescued,
        n,
        sample=sample.name,
        reading=f"{len(tries)} of {n} failed outputs had run to the limit; "
        f"up to {longest} tokens make {rescued} right.",
    )
    yield share(
        NAME,
        RUNNING,
        running,
        n,
        sample=sample.name,
        reading=f"{running} of {n} failed outputs have not stopped after {longest} tokens.",
    )


def _budget(tries: Iterable[_Try]) -> Evidence:
    rescued = sorted(one.rescued_at for one in tries if one.rescued_at)
    if not rescued:
        return missing(NAME, BUDGET, reading="No budget that was tried rescued an output.")
    budget = next(one for one in rescued if sum(other <= one for other in rescued) >= ENOUGH * len(rescued))
    reached = sum(other <= budget for other in rescued)
    reading = f"A budget of {budget} tokens makes {reached} of the {len(rescued)} rescued outputs right."
    return exact(NAME, BUDGET, budget, len(rescued), reading=reading)
