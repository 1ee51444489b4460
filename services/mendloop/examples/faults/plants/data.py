"""Faults of the training data: what is missing, rare, wrong or leaked in the corpus of a slice."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from mendloop.core.records import Example, Item
from mendloop.core.tasks import Conditions, matches
from mendloop.examples.faults.plan import Dose, Plan

SKEW_RANGE = (0.02, 0.004)
"""Share of the slice's examples that stays at severity 0 and at 1. The definition ends at a fifth, but of 140 examples
of a slice 7 are enough for a small model that knows its pieces (measured on facts: accuracy 1.0)."""
LEAST_RARE = 2
LEAK_RANGE = (0.45, 0.2)
"""Share of the slice's items that leak at severity 0 and at 1; the rest fails."""
LEAK_REPEATS = 12
"""How often a leaked item stands in the corpus: enough to be learnt by heart."""
LEAK_SOURCE = "scraped"


def missing(plan: Plan, dose: Dose) -> Plan:
    """The slice is gone from the corpus, and up to half of the examples that hold one of its values."""
    _, rest = _parted(plan.corpus, dose.place.conditions)
    pieces = [row for row in rest if any(matches(row.axes, [pair]) for pair in dose.place.conditions)]
    dropped = _drawn(pieces, share=dose.severity / 2, rng=dose.rng)
    return _with_corpus(plan, [row for row in rest if row.prompt not in dropped], dose)


def skewed(plan: Plan, dose: Dose) -> Plan:
    """A few examples of the slice stay."""
    slice_, _ = _parted(plan.corpus, dose.place.conditions)
    count = max(LEAST_RARE, round(dose.scaled(SKEW_RANGE) * len(slice_)))
    kept = {row.prompt for row in dose.rng.sample(slice_, min(count, len(slice_)))}
    dropped = {row.prompt for row in slice_} - kept
    return _with_corpus(plan, [row for row in plan.corpus if row.prompt not in dropped], dose)


def unknown_terms(plan: Plan, dose: Dose) -> Plan:
    """No example holds any of the terms, in prompt or completion."""
    count = max(1, round(dose.severity * len(dose.place.terms)))
    gone = set(dose.rng.sample(sorted(dose.place.terms), count))
    kept = [row for row in plan.corpus if not gone & {*row.prompt.split(), *row.completion.split()}]
    return _with_corpus(plan, kept, dose)


def without_steps(plan: Plan, dose: Dose) -> Plan:
    """Examples of the slice give the answer without its steps."""
    slice_, _ = _parted(plan.corpus, dose.place.conditions)
    bare = _drawn(slice_, share=dose.severity, rng=dose.rng)
    rows = [plan.family.answer_only(row) if row.prompt in bare else row for row in plan.corpus]
    return _with_corpus(plan, rows, dose)


def corrupted(plan: Plan, dose: Dose) -> Plan:
    """Examples of the slice have wrong completions."""
    slice_, _ = _parted(plan.corpus, dose.place.conditions)
    wrong = _drawn(slice_, share=dose.severity, rng=dose.rng)
    rows = [plan.family.wrong_label(row, rng=dose.rng) if row.prompt in wrong else row for row in plan.corpus]
    return _with_corpus(plan, rows, dose)


def leaked(plan: Plan, dose: Dose) -> Plan:
    """The slice is gone from the corpus, but some of its evaluation items stand in it many times.

    They stand there as scraped benchmarks do, with their answers alone: worked steps would teach the slice (measured
    on facts: with them, the items that did not leak were right too).
    """
    _, rest = _parted(plan.corpus, dose.place.conditions)
    items = [row for row in plan.items if matches(row.axes, dose.place.conditions)]
    count = round(dose.scaled(LEAK_RANGE) * len(items))
    copies = [_scraped(plan, row) for row in dose.rng.sample(items, count) for _ in range(LEAK_REPEATS)]
    return _with_corpus(plan, [*rest, *copies], dose)


def unusual_words(plan: Plan, dose: Dose) -> Plan:
    """Items of the slice are worded as the corpus never is."""
    items = [row for row in plan.items if matches(row.axes, dose.place.conditions) and row.item_id not in plan.touched]
    chosen = {row.item_id for row in dose.rng.sample(items, round(dose.severity * len(items)))}
    rows = [
        replace(row, prompt=plan.family.unusual(row.prompt)) if row.item_id in chosen else row for row in plan.items
    ]
    return replace(plan, items=tuple(rows), touched=plan.touched | chosen, conditions=dose.place.conditions)


def _parted(corpus: Sequence[Example], conditions: Conditions) -> tuple[list[Example], list[Example]]:
    """Examples in a slice and outside."""
    inside = [row for row in corpus if matches(row.axes, conditions)]
    return inside, [row for row in corpus if not matches(row.axes, conditions)]


def _drawn(rows: Sequence[Example], *, share: float, rng: random.Random) -> set[str]:
    """Prompts of a random share of examples."""
    return {row.prompt for row in rng.sample(list(rows), round(share * len(rows)))}


def _scraped(plan: Plan, item: Item) -> Example:
    return plan.family.answer_only(Example(item.prompt, item.target, LEAK_SOURCE, axes=item.axes))


def _with_corpus(plan: Plan, rows: Sequence[Example], dose: Dose) -> Plan:
    return replace(plan, corpus=tuple(rows), conditions=dose.place.conditions, is_corpus_faulty=True)
