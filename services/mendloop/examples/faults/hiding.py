"""Whether of two faults at once one hides the other: a fault that nobody could see is no fair question.

Each item is asked three times: with both faults, with the faulty training alone, and with the faulty evaluation alone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from mendloop.core.records import Outcome
from mendloop.examples.faults.measuring import evaluate
from mendloop.examples.faults.plan import Plan

FEWEST = 6
LEAST_SHARE = 0.15
"""Failures that each side must cause alone, in number and as a share of all failures of the slice."""


def hidden_side(
    plan: Plan, healthy: Plan, failed: Collection[str], *, checkpoint: Path, healthy_checkpoint: Path
) -> str:
    """What is wrong with two faults as one case: which side causes too few of the failed items alone; empty: nothing.

    Only a faulty training beside a faulty evaluation can be told apart so; for any other plan nothing is said.
    """
    if plan.training_sha == healthy.training_sha or plan.evaluates_as(healthy):
        return ""
    by_training = _failed(evaluate(plan.evaluated_as(healthy), checkpoint))
    by_evaluation = _failed(evaluate(healthy.evaluated_as(plan), healthy_checkpoint))
    alone = {
        "training": len(set(failed) & by_training - by_evaluation),
        "evaluation": len(set(failed) & by_evaluation - by_training),
    }
    least = max(FEWEST, LEAST_SHARE * len(failed))
    few = [f"the {side} alone causes {count}" for side, count in alone.items() if count < least]
    return f"one fault hides the other: of {len(failed)} failures {' and '.join(few)}" if few else ""


def _failed(outcomes: Sequence[Outcome]) -> set[str]:
    return {row.item_id for row in outcomes if not row.is_correct}
