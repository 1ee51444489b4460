"""Owns the search for weak slices: what was tested, what was found, what was left out.

Knows outcomes; knows neither models nor events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mendloop.core.records import Outcome
from mendloop.core.stats import benjamini_hochberg
from mendloop.evaluator.domain.candidates import Definition
from mendloop.evaluator.domain.parsimony import explanation
from mendloop.evaluator.domain.scoring import Tally
from mendloop.evaluator.domain.weakness import SliceRules, SliceTable


@dataclass(frozen=True, slots=True)
class WeakSlice:
    """A slice with its evidence on both splits, over all of its items."""

    conditions: Definition
    search: Tally
    confirm: Tally
    p_value: float
    q_value: float
    unexplained_count: int
    """Its failures that no slice reported before it explains."""


@dataclass(frozen=True, slots=True)
class SliceSearch:
    """What a search found and what it left out."""

    weak: tuple[WeakSlice, ...]
    candidate_count: int
    too_small_count: int
    duplicate_count: int
    confirmed_count: int
    """Candidates that were weak on both splits; those not in `weak` are explained by it or cut."""
    cut_count: int
    """Slices that were left out because of max_slices."""


def find_weak_slices(outcomes: Sequence[Outcome], *, rules: SliceRules) -> SliceSearch:
    """The fewest slices that explain where accuracy is below the threshold, most unexplained failures first.

    Looks at the outcomes of the splits search and confirm only.
    1. Candidates: all items and every conjunction of axis values with enough items on both splits.
    2. Search split: one-sided exact binomial test against the threshold, Benjamini-Hochberg over all candidates.
    3. Second split: accuracy below the same threshold, with p at most the same rate. Where its items are so few that
       even zero right answers cannot reach that p, the accuracy alone decides.
    4. Report: see mendloop.evaluator.domain.parsimony.explanation.
    """
    rows = sorted((o for o in outcomes if o.split in ("search", "confirm")), key=lambda o: o.item_id)
    table = SliceTable.of(rows, rules=rules)
    everything = table.in_search | table.in_confirm
    indexes = list(range(len(table.candidates.definitions)))
    p_values = table.p_values(indexes, everything)
    q_values = benjamini_hochberg(p_values)
    confirmed = table.weak(indexes, everything)
    chosen = sorted(
        explanation(table, confirmed, everything),
        key=lambda choice: (-choice.unexplained_count, table.candidates.definitions[choice.index]),
    )
    weak = [
        WeakSlice(
            conditions=table.candidates.definitions[choice.index],
            search=table.tally(choice.index, table.in_search),
            confirm=table.tally(choice.index, table.in_confirm),
            p_value=p_values[choice.index],
            q_value=q_values[choice.index],
            unexplained_count=choice.unexplained_count,
        )
        for choice in chosen[: rules.max_slices]
    ]
    return SliceSearch(
        weak=tuple(weak),
        candidate_count=len(indexes),
        too_small_count=table.candidates.too_small_count,
        duplicate_count=table.candidates.duplicate_count,
        confirmed_count=len(confirmed),
        cut_count=len(chosen) - len(weak),
    )
