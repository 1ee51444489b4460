"""Events of a run may arrive in any order: the decisions and the outputs are the same."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from controller_world import BETTER, HARMFUL, LOOK, WEAK, World, of, only, sealed_counts
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from mendloop.bus.runtime import Event
from mendloop.controller.domain.records import PlanState
from mendloop.v1 import checkpoint_pb2, diagnosis_pb2, intervention_pb2, loop_pb2

ARMS = ["random", "directly-sampled", {"oracle": {"verb": "jump"}}]
PRICED = {"gpu_s": 4000, "money": 100, "prices": {"gpu_hour": 2.0, "teacher_mtokens": 1.0}}
"""Shares of it depend on what was settled before."""


def two_rounds(world: World) -> None:
    """Promoted, then rejected for forgetting."""
    base_ready = world.base_ready(report=world.report())
    base = world.evaluated(base_ready, WEAK, weak=2)
    out = world.send(world.requested(), base_ready, base, world.diagnosed(base), world.diagnosed(base, LOOK, failed=0))
    plan = only(out, intervention_pb2.InterventionPlanned)
    ready = world.candidate_ready(plan)
    measured = world.evaluated(ready, {**BETTER, "jump": 60}, weak=1, sealed=sealed_counts())
    out = world.send(world.batched(plan, count=30), ready, measured, world.diagnosed(measured, failed=40))
    second = only(out, intervention_pb2.InterventionPlanned)
    ready = world.candidate_ready(second)
    world.send(world.batched(second, count=30), ready, world.evaluated(ready, HARMFUL, sealed=sealed_counts()))


def approved_training_fix(world: World) -> None:
    """A training fix that a person approves."""
    base_ready = world.base_ready(report=world.report())
    base = world.evaluated(base_ready, WEAK, weak=1)
    fix = world.diagnosed(base, kind=diagnosis_pb2.INTERVENTION_KIND_TRAINING_FIX, fixes={"train.eos_in_loss": "true"})
    question = only(world.send(world.requested(), base_ready, base, fix), loop_pb2.ApprovalRequested)
    answer = loop_pb2.ApprovalGiven(position=question.position, plan_id=question.plan_id, approved=True)
    plan = only(world.send(answer), intervention_pb2.InterventionPlanned)
    ready = world.candidate_ready(plan)
    world.send(ready, world.evaluated(ready, BETTER, sealed=sealed_counts()))


def replayed_more(world: World) -> None:
    """Rejected for forgetting, planned again with more replay, promoted. The rejected one was diagnosed too."""
    base_ready = world.base_ready()
    base = world.evaluated(base_ready, WEAK, weak=1)
    plan = only(
        world.send(world.requested(), base_ready, base, world.diagnosed(base)), intervention_pb2.InterventionPlanned
    )
    ready = world.candidate_ready(plan)
    measured = world.evaluated(ready, HARMFUL, weak=1, sealed=sealed_counts())
    out = world.send(ready, measured, world.batched(plan, count=32), world.diagnosed(measured, (("verb", "walk"),)))
    second = only(out, intervention_pb2.InterventionPlanned)
    ready = world.candidate_ready(second)
    world.send(world.batched(second, count=32), ready, world.evaluated(ready, BETTER, sealed=sealed_counts()))


def reviewed_batch(world: World) -> None:
    """A batch that people leave most of."""
    base_ready = world.base_ready()
    base = world.evaluated(base_ready, WEAK, weak=1)
    plan = only(
        world.send(world.requested(), base_ready, base, world.diagnosed(base)), intervention_pb2.InterventionPlanned
    )
    only(world.send(world.batched(plan)), loop_pb2.ApprovalRequested)
    only(world.send(world.reviewed(plan)), intervention_pb2.DataBatchReady)
    ready = world.candidate_ready(plan)
    world.send(ready, world.evaluated(ready, BETTER, sealed=sealed_counts()))


def control_arms(world: World) -> None:
    """Two rounds with controls: compared, empty, diverged, given up by the evaluator, and left out where money ends."""
    base_ready = world.base_ready(report=world.report())
    base = world.evaluated(base_ready, WEAK, weak=2)
    out = world.send(world.requested(), base_ready, base, world.diagnosed(base), world.diagnosed(base, LOOK, failed=0))
    plan = only(out, intervention_pb2.InterventionPlanned)
    random, direct, oracle = of(world.send(world.batched(plan, count=30)), intervention_pb2.InterventionPlanned)
    ready = world.candidate_ready(plan)
    measured = world.evaluated(ready, {**BETTER, "jump": 60}, weak=1, sealed=sealed_counts())
    out = world.send(ready, measured, world.diagnosed(measured, failed=40))
    assert of(out, intervention_pb2.InterventionPlanned) == []  # the next round waits for the controls
    world.send(*measured_control(world, random, {**WEAK, "jump": 20}))
    world.send(world.batched(direct, count=0))
    out = world.send(world.batched(oracle, count=30), world.diverged(oracle))
    second = only(out, intervention_pb2.InterventionPlanned)
    arms = of(world.send(world.batched(second, count=30)), intervention_pb2.InterventionPlanned)
    ready = world.candidate_ready(second)
    world.send(ready, world.evaluated(ready, HARMFUL, sealed=sealed_counts()))
    world.send(*measured_control(world, arms[0], WEAK), *measured_control(world, arms[1], HARMFUL))
    lost = world.candidate_ready(arms[2])
    world.send(world.batched(arms[2], count=30), lost, world.dead(lost, handler="evaluator"))


def measured_control(
    world: World, plan: intervention_pb2.InterventionPlanned, correct: dict[str, int]
) -> list[Message]:
    ready = world.candidate_ready(plan)
    return [world.batched(plan, count=30), ready, world.evaluated(ready, correct)]


SCENARIOS: dict[str, tuple[Callable[[World], None], dict[str, object], int]] = {
    "two rounds": (two_rounds, {"rounds": 2}, 5),
    "approved training fix": (approved_training_fix, {"approval": True}, 4),
    "replayed more": (replayed_more, {"rounds": 2}, 5),
    "reviewed batch": (reviewed_batch, {"review": True}, 5),
    "control arms": (control_arms, {"rounds": 2, "arms": ARMS, "budget": PRICED}, 17),
}


_FOLDER = tempfile.TemporaryDirectory(prefix="mend-order-")
"""Shared by all examples, for hypothesis allows no fixture of a function; removed when Python exits."""


@cache
def _in_order(name: str) -> World:
    play, changes, _ = SCENARIOS[name]
    world = World(Path(_FOLDER.name) / name.replace(" ", "-"), **changes)
    play(world)
    return world


def _outputs(world: World) -> list[tuple[str, str, str, bytes]]:
    return sorted(
        (e.message.DESCRIPTOR.name, e.identity, e.key, e.message.SerializeToString(deterministic=True))
        for e in world.emitted
    )


def _again(world: World, events: list[Event]) -> World:
    """A second controller on the same artifacts gets the events in another order."""
    other = World.__new__(World)
    other.__dict__.update(world.__dict__)
    asked = {name: getattr(world.recipe, name) for name in ("rounds", "approval", "review", "arms", "budget")}
    fresh = World(Path(str(world.store._root)), **asked)
    other.runs, other.emitted = fresh.runs, []
    other.ports = fresh.ports
    fresh.outcomes.tables.update(world.outcomes.tables)
    for event in events:
        other.deliver(event)
    return other


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario_plays_as_its_name_says(name: str) -> None:
    world = _in_order(name)
    assert len(world.emitted) == SCENARIOS[name][2]
    assert only(world.emitted, loop_pb2.LoopFinished).outcome == loop_pb2.LOOP_OUTCOME_PROMOTED
    assert len(of(world.emitted, checkpoint_pb2.CheckpointPromoted)) == 1


@pytest.mark.parametrize("name", SCENARIOS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_order_of_arrival_reaches_the_same_decisions_and_outputs(name: str, data: st.DataObject) -> None:
    world = _in_order(name)
    order = data.draw(st.permutations(world.sent))
    assert _outputs(_again(world, order)) == _outputs(world)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_events_that_come_twice_change_nothing(data: st.DataObject) -> None:
    world = _in_order("two rounds")
    doubled = data.draw(st.permutations([*world.sent, *world.sent]))
    other = _again(world, doubled)
    assert set(_outputs(other)) == set(_outputs(world))
    assert len({event.event_id for event in world.sent}) == len(other.runs.handled)


@pytest.mark.parametrize("name", ["two rounds", "control arms"])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_cancellation_at_any_moment_finishes_the_run_exactly_once(name: str, data: st.DataObject) -> None:
    world = _in_order(name)
    cancel = world.event(loop_pb2.LoopCancelled(position=world.position()))
    order = data.draw(st.permutations([*world.sent, cancel]))
    other = _again(world, order)
    assert len(of(other.emitted, loop_pb2.LoopFinished)) == 1
    assert all(row.is_settled for row in other.state().reservations)
    assert not [plan for plan in other.state().plans if plan.arm and plan.state is PlanState.PUBLISHED]
