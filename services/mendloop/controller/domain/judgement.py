"""Puts a candidate, or a repaired evaluation, before its gates. Knows the recipe's rules; `gates` knows the tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mendloop.controller.domain.gates import (
    PROTECTED_GATES,
    protected_gates,
    sealed_gates,
    target_gates,
)
from mendloop.controller.domain.pairs import Counts, Pair, by_value, count, overlap
from mendloop.controller.domain.records import Conditions, GateAnswer
from mendloop.core.recipe import Recipe
from mendloop.core.tasks import matches


def judge_candidate(
    pairs: Sequence[Pair], *, targets: Sequence[Conditions], sealed: Mapping[Conditions, Counts], recipe: Recipe
) -> tuple[GateAnswer, ...]:
    """Every gate's answer about a trained candidate; it may stand if all passed."""
    rules = recipe.gates
    axes = rules.protected or recipe.suite.axes
    outside = [p for p in pairs if not any(matches(p.axes, target) for target in targets)]
    protected = [
        (conditions, counts)
        for conditions, counts in by_value(outside, axes).items()
        if counts.before >= recipe.suite.weak_below
    ]
    return (
        *target_gates([(target, count(pairs, target)) for target in targets], alpha=rules.alpha),
        *protected_gates(count(pairs), protected, outside=count(outside), alpha=rules.alpha, margin=rules.margin),
        *sealed_gates(
            sealed.get(()),
            [(target, sealed[target]) for target in targets if target in sealed],
            target_count=len(targets),
            is_wanted=recipe.suite.sealed > 0,
            design_effect=overlap(pairs, targets),
            alpha=rules.alpha,
            margin=rules.margin,
        ),
    )


def judge_remeasured(pairs: Sequence[Pair], *, targets: Sequence[Conditions], recipe: Recipe) -> tuple[GateAnswer, ...]:
    """Whether a repaired evaluation scores the target slices of the same checkpoint higher; nothing else changed."""
    return tuple(target_gates([(target, count(pairs, target)) for target in targets], alpha=recipe.gates.alpha))


def passed(answers: Sequence[GateAnswer]) -> bool:
    """Whether every gate passed; no gate at all is no pass."""
    return bool(answers) and all(answer.passed for answer in answers)


def is_forgetting(answers: Sequence[GateAnswer]) -> bool:
    """Whether a gate failed that more replay of the old corpus may rescue."""
    return any(not answer.passed and answer.gate in PROTECTED_GATES for answer in answers)
