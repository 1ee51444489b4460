"""Drafts a round's plan: which slices, how many examples, which budget it holds. Knows amounts; knows no message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mendloop.controller.domain.arms import outside_plans
from mendloop.controller.domain.budget import (
    NEW_EXAMPLES,
    TRAIN_TOKENS,
    WALL_S,
    Shortage,
    Usage,
    examples_of_round,
    limits_of_work,
    metered_requests,
    shortage,
    token_bound,
)
from mendloop.controller.domain.records import Conditions, Diagnosis, Kind, RunState
from mendloop.controller.domain.slices import in_words
from mendloop.controller.domain.steps import Intervene
from mendloop.controller.domain.strategies import EXPECTED_GAIN, STRATEGIES, Need, Past, Split
from mendloop.core.recipe import Recipe, TrainSettings


@dataclass(frozen=True, slots=True)
class Share:
    """Examples for one slice."""

    verdict: Diagnosis
    example_count: int


@dataclass(frozen=True, slots=True)
class TooLittle:
    """A round that is not worth its cost: failed items that it is expected to put right, and the recipe's floor."""

    gain: float
    spread: float
    floor: float
    example_count: int

    def __str__(self) -> str:
        return (
            f"{self.example_count} more examples are expected to put right {self.gain:.1f} ± {self.spread:.1f} failed"
            f" items by what past rounds brought, below the floor of {self.floor:g}"
        )


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan that its budget covers."""

    round: int
    kind: Kind
    targets: tuple[Conditions, ...]
    shares: tuple[Share, ...]
    """Empty unless the plan adds data."""
    requests: Mapping[str, float]
    work_limits: Usage
    """How many GPU-seconds and teacher tokens its work may take; 0 for any number."""
    replay_share: float
    is_last: bool
    rationale: str


def draft(
    state: RunState,
    step: Intervene,
    *,
    recipe: Recipe,
    training: TrainSettings,
    work_s: float,
    now: float,
    past: Sequence[Past] = (),
) -> Draft | Shortage | TooLittle:
    """The plan of the next round, or the budget that does not cover it, or that it is not worth it.

    training is what the candidate will be trained with; work_s is how long comparable work took, in seconds; past is
    what the run's data rounds brought.
    """
    number = (state.plan.round if state.plan else 0) + 1
    kind, verdicts = step.choice.kind, step.choice.verdicts
    requests: dict[str, float] = {WALL_S: work_s}
    shares: tuple[Share, ...] = ()
    split: Split | None = None
    if kind is not Kind.EVALUATION_FIX:
        requests[TRAIN_TOKENS] = token_bound(training)
    if kind is Kind.DATA:
        count = examples_of_round(state.reservations, recipe.budget, rounds_left=recipe.rounds - number + 1)
        split = _split(verdicts, count, past=past, recipe=recipe, number=number)
        shares = tuple(Share(v, c) for v, c in zip(verdicts, split.counts, strict=True) if c)
        floor = recipe.allocation.floor
        if floor is not None and split.is_informed and split.gain < floor:
            return TooLittle(split.gain, split.spread, floor, count)
        requests[NEW_EXAMPLES] = count or len(verdicts)  # nothing left: the least that would be of use does not fit
    need, outside = _need(state, step, training), outside_plans(state)
    left = recipe.rounds - number + 1
    is_data = kind is Kind.DATA
    ledger = state.reservations
    parts = left * (1 + len(recipe.arms)) if is_data else left
    metered = metered_requests(ledger, recipe.budget, need=need, outside=outside, parts_left=parts, has_teacher=is_data)
    requests.update(metered)
    elapsed_s = state.elapsed_s(now)
    missing = shortage(ledger, recipe.budget, requests=requests, elapsed_s=elapsed_s, outside=outside)
    if missing is not None:
        return missing
    targets = tuple(share.verdict.conditions for share in shares) or tuple(v.conditions for v in verdicts)
    return Draft(
        round=number,
        kind=kind,
        targets=targets,
        shares=shares,
        requests=requests,
        work_limits=limits_of_work(metered, recipe.budget.prices, need=need),
        replay_share=step.replay_share,
        is_last=number >= recipe.rounds,
        rationale=_rationale(step, shares, split, recipe.allocation.strategy),
    )


def _need(state: RunState, step: Intervene, training: TrainSettings) -> Usage:
    """GPU-seconds of measuring the baseline again and of the training at the dearest rate so far, if any was seen."""
    rates = [t.cost.gpu_s / t.cost.token_count for t in state.trainings if t.cost.token_count]
    tokens = 0 if step.choice.kind is Kind.EVALUATION_FIX else token_bound(training)
    return Usage(gpu_s=step.baseline.cost.gpu_s + tokens * max(rates, default=0.0))


def _split(verdicts: tuple[Diagnosis, ...], count: int, *, past: Sequence[Past], recipe: Recipe, number: int) -> Split:
    """By the recipe's strategy; a slice whose share is 0 is no target of the round."""
    needs = [Need(verdict.conditions, verdict.cause, verdict.failed_count) for verdict in verdicts]
    return STRATEGIES[recipe.allocation.strategy](count, needs, past=past, seed=recipe.seed * 1000 + number)


def _rationale(step: Intervene, shares: tuple[Share, ...], split: Split | None, strategy: str) -> str:
    choice = step.choice
    if choice.kind is Kind.DATA:
        parts = ", ".join(
            f"{in_words(s.verdict.conditions)} {s.example_count} ({s.verdict.failed_count} failed, {s.verdict.cause})"
            for s in shares
        )
        total = sum(share.example_count for share in shares)
        informed = split is not None and split.is_informed
        by = "expected gain" if informed and strategy == EXPECTED_GAIN else "failed items"
        words = f"{total} new examples split by {by}: {parts}; replay share {step.replay_share:g}"
        if split is None or not informed:
            return words
        return f"{words}; expected to put right {split.gain:.1f} ± {split.spread:.1f} failed items by past rounds"
    settings = ", ".join(f"{setting}={value}" for setting, value in choice.fixes)
    causes = ", ".join(sorted({verdict.cause for verdict in choice.verdicts}))
    failed = sum(verdict.failed_count for verdict in choice.verdicts)
    what = "the same data trained again" if choice.kind is Kind.TRAINING_FIX else "the same checkpoint measured again"
    return f"{what} with {settings}: {len(choice.verdicts)} weak slice(s), {failed} failed items, {causes}"
