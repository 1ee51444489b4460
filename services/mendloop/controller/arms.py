"""Takes the steps about control arms: plans, leaves out, compares, settles. `domain.arms` knows which one is next.

A control never ends a run and is never promoted.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from mendloop.artifacts.lineage import Node, record
from mendloop.bus.runtime import Emit
from mendloop.controller import messages
from mendloop.controller.domain import budget
from mendloop.controller.domain.arms import (
    CloseArm,
    CompareArm,
    PlanArms,
    difference_words,
    differences,
    left_out_words,
    open_controls,
    orders_of,
    requests_of,
    shortage_of,
)
from mendloop.controller.domain.controls import ArmDifference, ArmOutcome, ArmState
from mendloop.controller.domain.records import Plan, PlanState, RunState
from mendloop.controller.domain.slices import in_words
from mendloop.controller.facts import raw
from mendloop.controller.world import World, prices_of, settled
from mendloop.core.arms import Arm
from mendloop.core.errors import Permanent
from mendloop.core.recipe import PriceSettings, Recipe
from mendloop.core.wire import artifact_of

log = logging.getLogger(__name__)


def plan_arms(state: RunState, step: PlanArms, recipe: Recipe, world: World) -> tuple[RunState, list[Emit]]:
    """A plan for each control that the budget holds, in the recipe's order; the others are left out with a reason."""
    emits: list[Emit] = []
    for arm in recipe.control_arms:
        requests = requests_of(state, step.main, example_count=step.example_count)
        missing = shortage_of(state, step.main, requests=requests, recipe=recipe, now=world.now)
        if missing is None:
            state, emit = _planned(state, step, arm, requests, world)
        else:
            reason = left_out_words(missing, later=recipe.rounds - step.main.round)
            outcome = ArmOutcome(step.main.round, arm.name, "", ArmState.LEFT_OUT, reason, "", world.now)
            log.warning("control arm left out", extra={"run_id": state.run_id, "arm": arm.name, "reason": reason})
            state, emit = _over(state, outcome, main_count=step.example_count)
        emits.append(emit)
    return state, emits


def compare_arm(state: RunState, step: CompareArm, prices: PriceSettings, world: World) -> tuple[RunState, list[Emit]]:
    """Set the two candidates side by side; a control whose outcomes cannot be read or paired fails alone."""
    main, control = messages.completed(step.main), messages.completed(step.measured)
    try:
        found = differences(
            world.outcomes.results(artifact_of(main.outcomes)),
            world.outcomes.results(artifact_of(control.outcomes)),
            plan=step.plan,
        )
    except Permanent as error:
        return _closed(state, step.plan, f"its outcomes cannot be compared: {error}", prices=prices, world=world)
    words = difference_words(step.plan.arm, found)
    _record(state, step, found, world=world)
    return _closed(
        state, step.plan, words, prices=prices, world=world, found=found, checkpoint=step.measured.checkpoint
    )


def close_arm(state: RunState, step: CloseArm, prices: PriceSettings, world: World) -> tuple[RunState, list[Emit]]:
    """Settle a control that comes to nothing."""
    log.warning("control arm failed", extra={"run_id": state.run_id, "arm": step.plan.arm, "reason": step.reason})
    return _closed(state, step.plan, step.reason, prices=prices, world=world)


def close_all(state: RunState, *, reason: str, world: World) -> tuple[RunState, list[Emit]]:
    """The run ends: controls that are at work end with it."""
    emits: list[Emit] = []
    for plan in open_controls(state):
        step = CloseArm(plan, f"the run ended before: {reason}")
        state, out = close_arm(state, step, prices_of(state, world.store), world)
        emits += out
    return state, emits


def _planned(
    state: RunState, step: PlanArms, arm: Arm, requests: dict[str, float], world: World
) -> tuple[RunState, Emit]:
    orders = orders_of(arm, example_count=step.example_count)
    message = messages.planned_control(state, step.main, arm, orders)
    plan = replace(step.main, arm=arm.name, plan_id=message.plan_id, state=PlanState.PUBLISHED, event=raw(message))
    rows = budget.reserve(plan.plan_id, requests)
    facts = {"arm": arm.name, "rationale": message.rationale, "round": plan.round, "replay_share": plan.replay_share}
    record(world.store, Node(f"plan:{plan.plan_id}", state.run_id, (f"plan:{step.main.plan_id}",), facts))
    state = replace(state.with_plan(plan), reservations=(*state.reservations, *rows))
    return state, messages.emit_plan(state, plan)


def _closed(
    state: RunState,
    plan: Plan,
    reason: str,
    *,
    prices: PriceSettings,
    world: World,
    found: Sequence[ArmDifference] = (),
    checkpoint: str = "",
) -> tuple[RunState, list[Emit]]:
    state = settled(state, plan, prices).with_plan(replace(plan, state=PlanState.SETTLED))
    verdict = ArmState.COMPARED if found else ArmState.FAILED
    training = state.training(plan)
    made = checkpoint or (training.checkpoint if training else "")
    outcome = ArmOutcome(plan.round, plan.arm, plan.plan_id, verdict, reason, made, world.now)
    state = replace(state, differences=(*state.differences, *found))
    state, emit = _over(state, outcome, main_count=messages.ordered_count(plan))
    return state, [emit]


def _over(state: RunState, outcome: ArmOutcome, *, main_count: int) -> tuple[RunState, Emit]:
    state = replace(state, arms=(*state.arms, outcome))
    return state, messages.emit_arm(state, outcome, main_count=main_count)


def _record(state: RunState, step: CompareArm, found: Sequence[ArmDifference], *, world: World) -> None:
    rows = [
        {"conditions": in_words(row.conditions), "n": row.n, "main": row.main, "control": row.control}
        | {"low": row.low, "high": row.high, "p_value": row.p_value}
        for row in found
    ]
    inputs = (f"checkpoint:{step.main.checkpoint}", f"checkpoint:{step.measured.checkpoint}")
    name = f"comparison:{step.plan.plan_id}"
    facts = {"arm": step.plan.arm, "round": step.plan.round, "differences": rows}
    record(world.store, Node(name, state.run_id, inputs, facts))
