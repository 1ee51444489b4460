"""Puts a candidate, or a repaired evaluation, before its gates. Knows the recipe's rules; `gates` knows the tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mendloop.controller.domain.gates import (
    PROTECTED_GATES,
    SEALED_TARGET,
    protected_gates,
    sealed_gates,
    target_gates,
)
from mendloop.controller.domain.levels import UNASKED, Standing, level_of_round
from mendloop.controller.domain.pairs import Counts, Pair, by_value, count, overlap
from mendloop.controller.domain.records import Conditions, GateAnswer
from mendloop.controller.domain.twins import TwinCounts, twin_gates
from mendloop.core.recipe import Recipe
from mendloop.core.tasks import matches


def judge_candidate(
    pairs: Sequence[Pair],
    *,
    targets: Sequence[Conditions],
    sealed: Mapping[Conditions, Counts],
    recipe: Recipe,
    twins: Mapping[Conditions, TwinCounts] | None = None,
    standing: Standing = UNASKED,
) -> tuple[GateAnswer, ...]:
    """Every gate's answer about a trained candidate; it may stand if all passed."""
    rules = recipe.gates
    level = level_of_round(rules.alpha, rounds=recipe.rounds)
    shared = overlap(pairs, targets)
    axes = rules.protected or recipe.suite.axes
    outside = [p for p in pairs if not any(matches(p.axes, target) for target in targets)]
    protected = [
        (conditions, counts)
        for conditions, counts in by_value(outside, axes).items()
        if counts.before >= recipe.suite.weak_below
    ]
    return (
        *target_gates([(target, count(pairs, target)) for target in targets], alpha=level),
        *protected_gates(
            count(pairs), protected, outside=count(outside), alpha=rules.alpha, margin=rules.margin, level=level
        ),
        *sealed_gates(
            sealed.get(()),
            [(target, sealed[target]) for target in targets if target in sealed],
            target_count=len(targets),
            is_wanted=recipe.suite.sealed > 0,
            design_effect=shared,
            alpha=rules.alpha,
            margin=rules.margin,
            level=rules.alpha if recipe.suite.twins else level,
            standing=standing,
        ),
        *_fresh(targets, twins or {}, recipe=recipe, design_effect=shared, level=level),
    )


def _fresh(
    targets: Sequence[Conditions],
    twins: Mapping[Conditions, TwinCounts],
    *,
    recipe: Recipe,
    design_effect: float,
    level: float,
) -> list[GateAnswer]:
    """The twin suite's answers; none where the recipe has no twins."""
    if not recipe.suite.twins:
        return []
    measured = [(target, twins[target]) for target in targets if target in twins]
    return twin_gates(
        measured, target_count=len(targets), design_effect=design_effect, alpha=recipe.gates.alpha, level=level
    )


def judge_remeasured(pairs: Sequence[Pair], *, targets: Sequence[Conditions], recipe: Recipe) -> tuple[GateAnswer, ...]:
    """Whether a repaired evaluation scores the target slices of the same checkpoint higher; nothing else changed."""
    level = level_of_round(recipe.gates.alpha, rounds=recipe.rounds)
    return tuple(target_gates([(target, count(pairs, target)) for target in targets], alpha=level))


def sealed_answer(answers: Sequence[GateAnswer]) -> bool | None:
    """Whether the sealed items said anything but "no gain"; None where they were not asked."""
    found = next((answer for answer in answers if answer.gate == SEALED_TARGET and answer.n), None)
    return found.passed if found else None


def passed(answers: Sequence[GateAnswer]) -> bool:
    """Whether every gate passed; no gate at all is no pass."""
    return bool(answers) and all(answer.passed for answer in answers)


def is_forgetting(answers: Sequence[GateAnswer]) -> bool:
    """Whether a gate failed that more replay of the old corpus may rescue."""
    return any(not answer.passed and answer.gate in PROTECTED_GATES for answer in answers)
