"""Drafts a round's plan: which slices, how many examples, which budget it holds. Knows amounts; knows no message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mendloop.controller.domain.allocation import allocate
from mendloop.controller.domain.budget import (
    NEW_EXAMPLES,
    TRAIN_TOKENS,
    WALL_S,
    Shortage,
    examples_of_round,
    shortage,
    token_bound,
)
from mendloop.controller.domain.records import Conditions, Diagnosis, Kind, RunState
from mendloop.controller.domain.steps import Intervene
from mendloop.core.recipe import Recipe, TrainSettings


@dataclass(frozen=True, slots=True)
class Share:
    """Examples for one slice."""

    verdict: Diagnosis
    example_count: int


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan that its budget covers."""

    round: int
    kind: Kind
    targets: tuple[Conditions, ...]
    shares: tuple[Share, ...]
    """Empty unless the plan adds data."""
    requests: Mapping[str, float]
    replay_share: float
    is_last: bool
    rationale: str


def draft(
    state: RunState, step: Intervene, *, recipe: Recipe, training: TrainSettings, work_s: float, now: float
) -> Draft | Shortage:
    """The plan of the next round, or the budget that does not cover it.

    training is what the candidate will be trained with; work_s is how long comparable work took, in seconds.
    """
    number = (state.plan.round if state.plan else 0) + 1
    kind, verdicts = step.choice.kind, step.choice.verdicts
    requests: dict[str, float] = {WALL_S: work_s}
    shares: tuple[Share, ...] = ()
    if kind is not Kind.EVALUATION_FIX:
        requests[TRAIN_TOKENS] = token_bound(training)
    if kind is Kind.DATA:
        count = examples_of_round(state.reservations, recipe.budget, rounds_left=recipe.rounds - number + 1)
        shares = _shares(verdicts, count)
        requests[NEW_EXAMPLES] = count or len(verdicts)  # nothing left: the least that would be of use does not fit
    missing = shortage(
        state.reservations, recipe.budget, requests=requests, elapsed_s=max(0.0, now - state.run.started_at)
    )
    if missing is not None:
        return missing
    targets = tuple(share.verdict.conditions for share in shares) or tuple(v.conditions for v in verdicts)
    return Draft(
        round=number,
        kind=kind,
        targets=targets,
        shares=shares,
        requests=requests,
        replay_share=step.replay_share,
        is_last=number >= recipe.rounds,
        rationale=_rationale(step, shares),
    )


def _shares(verdicts: tuple[Diagnosis, ...], count: int) -> tuple[Share, ...]:
    """By failure mass; a slice whose share is 0 is no target of the round."""
    counts = allocate(count, [verdict.failed_count for verdict in verdicts])
    return tuple(Share(v, c) for v, c in zip(verdicts, counts, strict=True) if c)


def in_words(conditions: Conditions) -> str:
    """A slice as a person reads it."""
    return " ∧ ".join(f"{axis}={value}" for axis, value in sorted(conditions)) or "all items"


def _rationale(step: Intervene, shares: tuple[Share, ...]) -> str:
    choice = step.choice
    if choice.kind is Kind.DATA:
        parts = ", ".join(
            f"{in_words(s.verdict.conditions)} {s.example_count} ({s.verdict.failed_count} failed, {s.verdict.cause})"
            for s in shares
        )
        total = sum(share.example_count for share in shares)
        return f"{total} new examples split by failed items: {parts}; replay share {step.replay_share:g}"
    settings = ", ".join(f"{setting}={value}" for setting, value in choice.fixes)
    causes = ", ".join(sorted({verdict.cause for verdict in choice.verdicts}))
    failed = sum(verdict.failed_count for verdict in choice.verdicts)
    what = "the same data trained again" if choice.kind is Kind.TRAINING_FIX else "the same checkpoint measured again"
    return f"{what} with {settings}: {len(choice.verdicts)} weak slice(s), {failed} failed items, {causes}"
