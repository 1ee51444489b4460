"""Control arms of a round: when they are planned, what they may spend, when they are over. Knows no message.

A control is planned once the main arm's batch is known: it gets as many examples, and the same settings, start, seed,
replay share and limits. It holds as much of the budget, after the main arm and the main arm's later rounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mendloop.controller.domain.budget import (
    CONTROL_EXAMPLES,
    NEW_EXAMPLES,
    WALL_S,
    Shortage,
    Usage,
    shortage,
)
from mendloop.controller.domain.controls import ArmDifference, ArmFailure
from mendloop.controller.domain.pairs import Counts, Result, count, pair
from mendloop.controller.domain.records import Conditions, Evaluation, Kind, Plan, PlanState, RunState, total
from mendloop.controller.domain.slices import in_words
from mendloop.core.arms import Arm
from mendloop.core.recipe import Recipe
from mendloop.core.stats import p_changed, paired_difference

_BEFORE_BATCH, _BEFORE_TRAINING = ("data-generator", "controller"), ("data-generator", "controller", "trainer")
"""Services that may fail without a batch, without a training having been made."""


@dataclass(frozen=True, slots=True)
class PlanArms:
    """Plan the controls of a round, or leave them out."""

    main: Plan
    example_count: int
    """Examples that the main arm trains on, hence each control."""


@dataclass(frozen=True, slots=True)
class CompareArm:
    """Compare the candidates of the main arm and of a control."""

    plan: Plan
    main: Evaluation
    measured: Evaluation


@dataclass(frozen=True, slots=True)
class CloseArm:
    """Settle a control that comes to nothing."""

    plan: Plan
    reason: str


ArmStep = PlanArms | CompareArm | CloseArm


def open_controls(state: RunState) -> list[Plan]:
    """Plans of controls that are at work."""
    found = [plan for plan in state.plans if plan.arm and plan.state is PlanState.PUBLISHED]
    return sorted(found, key=lambda plan: (plan.round, plan.arm))


def next_arm_step(state: RunState, *, recipe: Recipe) -> ArmStep | None:
    """The next step about controls, or None where there is none or it waits."""
    for plan in open_controls(state):
        step = _after_work(state, plan)
        if step is not None:
            return step
    return _planning(state, recipe=recipe)


def requests_of(state: RunState, main: Plan, *, example_count: int) -> dict[str, float]:
    """What a control holds: as much as the main arm, but examples of its own."""
    held = {row.resource: row.amount for row in state.reservations if row.plan_id == main.plan_id}
    held.pop(NEW_EXAMPLES, None)
    return {**held, CONTROL_EXAMPLES: float(example_count)}


def shortage_of(
    state: RunState, main: Plan, *, requests: Mapping[str, float], recipe: Recipe, now: float
) -> Shortage | None:
    """The budget that does not hold one more control of the round, or None.

    The main arm's later rounds go first: a control fits where what it leaves covers as much again for each of them.
    Wall time is asked for as if the arms worked one after another. Diagnoses of the round's own candidate are not
    counted: they may come before or after the batch.
    """
    later = recipe.rounds - main.round
    planned = sum(bool(plan.arm) and plan.round == main.round for plan in state.plans)
    asked = {
        resource: amount * (2 + planned + later if resource == WALL_S else 1 + later)
        for resource, amount in requests.items()
    }
    return shortage(
        state.reservations,
        recipe.budget,
        requests=asked,
        elapsed_s=state.elapsed_s(now),
        outside=outside_plans(state, before=main.round),
    )


def outside_plans(state: RunState, *, before: int | None = None) -> Usage:
    """What was metered and belongs to no plan: the base, and every diagnosis (of rounds before a number)."""
    costs = [e.cost for e in state.evaluations if not e.plan_id] + [t.cost for t in state.trainings if not t.plan_id]
    diagnoses = [d.cost for d in state.diagnoses if before is None or d.round < before]
    return Usage(gpu_s=total([*costs, *diagnoses]).gpu_s)


def left_out_words(missing: Shortage, *, later: int) -> str:
    """Why a control was left out."""
    held = f", {later} later round(s) of the main arm included" if later else ""
    return f"left out, no budget for {missing}{held}"


def orders_of(arm: Arm, *, example_count: int) -> list[tuple[Conditions, int]]:
    """Slices and counts of a control's plan: all items, or the oracle's regions in equal shares."""
    regions: Sequence[Conditions] = arm.regions or ((),)
    each, rest = divmod(example_count, len(regions))
    counts = [each + (at < rest) for at in range(len(regions))]
    return [(region, share) for region, share in zip(regions, counts, strict=True) if share]


def differences(main: Iterable[Result], control: Iterable[Result], *, plan: Plan) -> tuple[ArmDifference, ...]:
    """All items, then each target of the round. Raises Permanent where the candidates answered different items."""
    pairs = pair(control, main)
    slices: list[Conditions] = [(), *(target for target in plan.targets if target)]
    return tuple(_difference(plan, at, slice_, count(pairs, slice_)) for at, slice_ in enumerate(slices))


def difference_words(arm: str, found: Sequence[ArmDifference]) -> str:
    """The targets' figures, or those of all items where these are the target."""
    shown = found[1:] or found
    return f"against {arm}: " + ", ".join(
        f"{in_words(row.conditions)} {row.main:.1%} with ours, {row.control:.1%} with the control"
        f" ({(row.main - row.control) * 100:+.1f} points [{row.low * 100:+.1f}, {row.high * 100:+.1f}],"
        f" n = {row.n}, p = {row.p_value:.2g})"
        for row in shown
    )


def failure_of(state: RunState, plan: Plan) -> ArmFailure | None:
    """Why a control cannot go on, or None."""
    found = [f for f in state.arm_failures if (f.round, f.arm) == (plan.round, plan.arm)]
    return min(found, key=lambda failure: (failure.handler, failure.reason), default=None)


def _planning(state: RunState, *, recipe: Recipe) -> PlanArms | None:
    main = state.plan
    if main is None or main.kind is not Kind.DATA or not recipe.arms:
        return None
    is_final = main.state is PlanState.REVIEWED or (main.state is PlanState.PUBLISHED and not recipe.review)
    known = {plan.round for plan in state.plans if plan.arm} | {arm.round for arm in state.arms}
    example_count = state.added_count(main)
    if not is_final or not example_count or main.round in known:
        return None
    return PlanArms(main, example_count)


def _after_work(state: RunState, plan: Plan) -> CompareArm | CloseArm | None:
    failure, batch = failure_of(state, plan), state.batch(plan.plan_id)
    if failure is not None:
        return CloseArm(plan, failure.reason) if _is_metered(state, plan, failure) else None
    if batch is None:
        return None
    if not batch.example_count:
        drops = f" ({batch.reason})" if batch.reason else ""
        return CloseArm(plan, f"no new example passed the funnel{drops}; nothing was trained")
    main, measured = state.evaluation(plan.round), state.evaluation_of(plan)
    return CompareArm(plan, main, measured) if main and measured else None


def _is_metered(state: RunState, plan: Plan, failure: ArmFailure) -> bool:
    """Whether all work before the failure is known, which an event may overtake: it is settled with what it cost."""
    has_batch = failure.handler in _BEFORE_BATCH or state.batch(plan.plan_id) is not None
    return has_batch and (failure.handler in _BEFORE_TRAINING or state.training(plan) is not None)


def _difference(plan: Plan, position: int, conditions: Conditions, counts: Counts) -> ArmDifference:
    low, high = paired_difference(counts.lost, counts.gained, n=counts.n) if counts.n else (-1.0, 1.0)
    return ArmDifference(
        round=plan.round,
        arm=plan.arm,
        position=position,
        conditions=conditions,
        n=counts.n,
        only_main=counts.gained,
        only_control=counts.lost,
        both=counts.both,
        low=low,
        high=high,
        p_value=p_changed(counts.lost, counts.gained),
    )
