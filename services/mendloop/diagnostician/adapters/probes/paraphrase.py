"""Does a more usual wording make failed prompts right? Needs a family that can reword; passing items are a control.

A rewording also drops what wraps a prompt: items that writing them as the corpus does makes right count there alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher

from mendloop.core.task_hooks import Rewording
from mendloop.diagnostician.adapters.probes.counterfactual import (
    NO_MODEL,
    Group,
    both,
    cannot,
    failed,
    passing,
    rescued_ids,
    right_ids,
    shares,
)
from mendloop.diagnostician.adapters.probes.reformat import tried_repairs
from mendloop.diagnostician.domain.case import Case
from mendloop.diagnostician.domain.evidence import Evidence
from mendloop.diagnostician.domain.probing import CostClass

NAME = "paraphrase"
RESCUED = "rescued_share"
BROKEN = "passing_broken_share"


class Paraphrase:
    """Puts each prompt in its most usual other wording; a model that breaks on any does so on passing items, too."""

    name = NAME
    cost_class = CostClass.GENERATED

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """Per sample: share of failed items that the rewording makes right, and of passing ones that it makes wrong."""
        if case.model is None or not isinstance(case.task, Rewording):
            why = NO_MODEL if case.model is None else "The task family cannot reword a prompt."
            return cannot(case, NAME, (RESCUED, BROKEN), why)
        reworded = _reworded(case, case.task, failed)
        if not reworded:
            return cannot(case, NAME, (RESCUED, BROKEN), "No failed prompt has another wording.")
        rows = [row for row in both(case) if row.item.item_id in reworded]
        rescued = rescued_ids(case, case.model, rows, [case.template(reworded[row.item.item_id]) for row in rows])
        by_form = {name for _, names in tried_repairs(case, case.model) for name in names} if case.corpus else set()
        rescued -= by_form
        prompts = {row.item.item_id: row.item.prompt for row in rows}
        changed = ", ".join(_changes(prompts, {name: reworded[name] for name in rescued or reworded}))
        words = f"become right in their most usual other wording ({changed}) and not by their form."
        return (*shares(case, NAME, RESCUED, rescued, words), *_control(case, case.task))


def _control(case: Case, task: Rewording) -> list[Evidence]:
    """Passing items that break; those without another wording do not count as broken."""
    reworded = _reworded(case, task, passing)
    if case.model is None or not reworded:
        return list(cannot(case, NAME, (BROKEN,), "No passing prompt has another wording."))
    rows = [row for row in both(case, passing) if row.item.item_id in reworded]
    right = right_ids(case, case.model, rows, [case.template(reworded[row.item.item_id]) for row in rows])
    return shares(case, NAME, BROKEN, set(reworded) - right, "break in their most usual other wording.", group=passing)


def _reworded(case: Case, task: Rewording, group: Group) -> dict[str, str]:
    """The most usual other wording of each item that has one."""
    found = {row.item.item_id: next(iter(task.rewordings(row.item.prompt)), "") for row in both(case, group)}
    return {name: text for name, text in found.items() if text}


def _changes(prompts: Mapping[str, str], reworded: Mapping[str, str]) -> list[str]:
    """Up to three commonest replacements of words."""
    tally = Counter(change for name, text in reworded.items() for change in _replaced(prompts[name], text))
    return [change for change, _ in tally.most_common(3)]


def _replaced(before: str, after: str) -> Iterator[str]:
    old, new = before.split(), after.split()
    for tag, old_start, old_end, new_start, new_end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            yield f"{' '.join(old[old_start:old_end])!r} as {' '.join(new[new_start:new_end])!r}"
