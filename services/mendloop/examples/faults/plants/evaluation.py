"""Faults of the evaluation: the model is healthy, what is asked or how it is scored is not."""

from __future__ import annotations

import math
from dataclasses import replace

from mendloop.core.errors import InvalidRecipe
from mendloop.core.records import Example, Item
from mendloop.core.tasks import matches
from mendloop.diagnostician.domain.causes import Cause
from mendloop.examples.faults.plan import Dose, Plan

WRAPPED_RANGE = (0.4, 1.0)
WRONG_TARGET_RANGE = (0.35, 0.8)
CUT_RANGE = (0.35, 0.9)
FLAKY_RANGE = (0.35, 0.7)
STYLES = 8


def faulty_scorer(plan: Plan, dose: Dose) -> Plan:
    """The scorer reads something else than the answer."""
    return _with_scorer(plan, Cause.SCORER_BUG)


def blind_scorer(plan: Plan, dose: Dose) -> Plan:
    """The scorer finds no answer in right outputs."""
    return _with_scorer(plan, Cause.EXTRACTION_FAILURE)


def short_budget(plan: Plan, dose: Dose) -> Plan:
    """The token limit is below the length of most right outputs, by words: each is one token."""
    lengths = sorted(len(row.target.split()) for row in plan.items)
    share = dose.scaled(CUT_RANGE)
    limit = lengths[math.floor((1 - share) * (len(lengths) - 1))]
    return replace(plan, max_new_tokens=max(1, min(limit, lengths[-1] - 1)))


def wrapped_prompts(plan: Plan, dose: Dose) -> Plan:
    """Prompts stand in a format that training never saw."""
    chosen = _chosen(plan, plan.items, share=dose.scaled(WRAPPED_RANGE), dose=dose)
    style = dose.rng.randrange(STYLES)
    rows = [
        replace(row, prompt=plan.family.wrapped(row.prompt, style=style)) if row.item_id in chosen else row
        for row in plan.items
    ]
    return replace(plan, items=tuple(rows), touched=plan.touched | chosen)


def wrong_targets(plan: Plan, dose: Dose) -> Plan:
    """Items of the slice have wrong targets."""
    inside = [row for row in plan.items if matches(row.axes, dose.place.conditions)]
    chosen = _chosen(plan, inside, share=dose.scaled(WRONG_TARGET_RANGE), dose=dose)
    rows = [_mislabelled(plan, row, dose) if row.item_id in chosen else row for row in plan.items]
    return replace(plan, items=tuple(rows), touched=plan.touched | chosen, conditions=dose.place.conditions)


def flaky_outputs(plan: Plan, dose: Dose) -> Plan:
    """Some outputs are another item's: no cause of the list."""
    return replace(plan, flaky_share=dose.scaled(FLAKY_RANGE))


def _with_scorer(plan: Plan, cause: Cause) -> Plan:
    traits = plan.family.traits
    if cause not in traits.scorer_options:
        raise InvalidRecipe(f"family {traits.name} has no faulty scorer for {cause}; see `mend faults list`")
    return replace(plan, task_options={**plan.task_options, **traits.scorer_options[cause]})


def _chosen(plan: Plan, items: list[Item] | tuple[Item, ...], *, share: float, dose: Dose) -> frozenset[str]:
    """A random share of items that no other fault has touched."""
    free = [row.item_id for row in items if row.item_id not in plan.touched]
    return frozenset(dose.rng.sample(free, min(len(free), round(share * len(items)))))


def _mislabelled(plan: Plan, item: Item, dose: Dose) -> Item:
    wrong = plan.family.wrong_label(Example(item.prompt, item.target, "item", axes=item.axes), rng=dose.rng)
    return replace(item, target=wrong.completion)
