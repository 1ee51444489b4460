"""What people ask of a run, and several runs at once: pause, resume, rollback, interleaving."""

from __future__ import annotations

from pathlib import Path

import pytest
from controller_world import BETTER, HARMFUL, WEAK, MemoryRuns, World, names, of, only, ref, sealed_counts

from mendloop.bus.endings import has_ended
from mendloop.controller.domain.records import PlanState, Run, RunState
from mendloop.controller.domain.steering import Action, Steering
from mendloop.core.errors import InvalidEvent
from mendloop.v1 import checkpoint_pb2, intervention_pb2, loop_pb2

PAUSE = loop_pb2.STEERING_ACTION_PAUSE
RESUME = loop_pb2.STEERING_ACTION_RESUME
ROLL_BACK = loop_pb2.STEERING_ACTION_ROLL_BACK


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def steered(world: World, action: loop_pb2.SteeringAction.ValueType, *, reason: str = "") -> loop_pb2.LoopSteered:
    return loop_pb2.LoopSteered(position=world.position(), action=action, reason=reason, steered_by="Ada")


def promoted(world: World) -> checkpoint_pb2.CheckpointReady:
    """The run of the world up to a promotion."""
    plan = world.until_plan()
    candidate = world.candidate_ready(plan)
    world.send(world.batched(plan, count=32), world.evaluated(candidate, BETTER, sealed=sealed_counts()))
    return candidate


def test_paused_run_keeps_what_arrives_and_goes_on_from_it_when_resumed(world: World) -> None:
    base = world.evaluated(world.base_ready(), WEAK, weak=1)
    assert world.send(world.requested(), base, steered(world, PAUSE), world.diagnosed(base)) == []
    out = world.send(steered(world, RESUME))
    only(out, intervention_pb2.InterventionPlanned)


def test_paused_time_is_no_wall_clock_of_the_run(tmp_path: Path) -> None:
    world = World(tmp_path, budget={"wall_s": 60})
    base = world.evaluated(world.base_ready(), WEAK, weak=1)
    world.send(world.requested(), base, steered(world, PAUSE, reason="night"))
    world.now += 3600
    world.send(steered(world, RESUME))
    world.now += 5
    only(world.send(world.diagnosed(base)), intervention_pb2.InterventionPlanned)


def test_time_of_a_pause_that_lasts_does_not_count_either() -> None:
    asked = [Steering(0, Action.PAUSE, "", "", 110.0), Steering(1, Action.PAUSE, "", "", 120.0)]
    state = RunState("r", Run(started_at=100.0), steerings=tuple(asked))
    assert state.is_paused
    assert state.elapsed_s(500.0) == 10.0


def test_paused_run_can_be_cancelled(world: World) -> None:
    plan = world.until_plan()
    world.send(steered(world, PAUSE), world.batched(plan))
    finished = only(world.send(loop_pb2.LoopCancelled(position=world.position())), loop_pb2.LoopFinished)
    assert finished.outcome == loop_pb2.LOOP_OUTCOME_CANCELLED
    assert all(row.is_settled for row in world.state().reservations)


def test_run_that_ends_is_noted_where_every_service_looks(world: World) -> None:
    world.until_plan()
    assert not has_ended(world.store, world.run_id)
    world.send(loop_pb2.LoopCancelled(position=world.position()))
    assert has_ended(world.store, world.run_id)


def test_promotion_of_a_finished_run_is_taken_back_once_with_who_and_why(world: World) -> None:
    candidate = promoted(world)
    back = only(world.send(steered(world, ROLL_BACK, reason="bad tone")), checkpoint_pb2.CheckpointRolledBack)
    assert (back.checkpoint, back.restored) == (candidate.checkpoint, ref("base"))
    assert (back.reason, back.rolled_back_by) == ("bad tone", "Ada")
    assert [plan.state for plan in world.state().plans] == [PlanState.ROLLED_BACK]
    world.now += 1
    assert world.send(steered(world, ROLL_BACK, reason="again")) == []


def test_rollback_goes_back_one_promotion_at_a_time(tmp_path: Path) -> None:
    world = World(tmp_path, rounds=2)
    plan = world.until_plan()
    first = world.candidate_ready(plan)
    measured = world.evaluated(first, {**BETTER, "jump": 60}, weak=1, sealed=sealed_counts())
    world.send(world.batched(plan, count=32), measured)
    second = only(world.send(world.diagnosed(measured, failed=40)), intervention_pb2.InterventionPlanned)
    best = world.evaluated(world.candidate_ready(second), {**BETTER, "jump": 95}, sealed=sealed_counts())
    world.send(world.batched(second, count=32), best)
    restored = [
        only(world.send(steered(world, ROLL_BACK, reason=why)), checkpoint_pb2.CheckpointRolledBack).restored
        for why in ("first", "second")
    ]
    assert restored == [first.checkpoint, ref("base")]


def test_rollback_ends_a_run_that_goes_on_and_its_late_work_changes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, rounds=2)
    plan = world.until_plan()
    measured = world.evaluated(world.candidate_ready(plan), {**BETTER, "jump": 60}, weak=1, sealed=sealed_counts())
    world.send(world.batched(plan, count=32), measured)
    second = only(world.send(world.diagnosed(measured, failed=40)), intervention_pb2.InterventionPlanned)
    out = world.send(steered(world, ROLL_BACK, reason="bad tone"))
    assert names(out) == ["CheckpointRolledBack", "LoopFinished"]
    finished = only(out, loop_pb2.LoopFinished)
    assert finished.checkpoint == ref("base")
    assert finished.outcome == loop_pb2.LOOP_OUTCOME_REJECTED
    assert "Ada took back round 1: bad tone" in finished.summary
    assert all(row.is_settled for row in world.state().reservations)
    late = world.evaluated(world.candidate_ready(second), BETTER, sealed=sealed_counts())
    assert world.send(world.batched(second), late) == []


def test_run_without_a_promotion_has_nothing_to_roll_back(world: World) -> None:
    plan = world.until_plan()
    assert world.send(steered(world, ROLL_BACK)) == []
    candidate = world.candidate_ready(plan)
    out = world.send(world.batched(plan), world.evaluated(candidate, BETTER, sealed=sealed_counts()))
    assert of(out, checkpoint_pb2.CheckpointPromoted)


def test_unknown_action_is_invalid(world: World) -> None:
    with pytest.raises(InvalidEvent, match="action 77"):
        world.send(loop_pb2.LoopSteered(position=world.position(), action=77))  # type: ignore[arg-type]


def test_two_runs_whose_events_interleave_decide_as_if_alone(tmp_path: Path) -> None:
    runs = MemoryRuns()
    first, second = (World(tmp_path, runs=runs, run_id=run_id) for run_id in ("run-a", "run-b"))
    bases = {}
    for world in (first, second):
        bases[world.run_id] = world.evaluated(world.base_ready(), WEAK, weak=1)
        world.send(world.requested(), bases[world.run_id])
    plans = {
        world.run_id: only(world.send(world.diagnosed(bases[world.run_id])), intervention_pb2.InterventionPlanned)
        for world in (second, first)
    }
    for world in (first, second):
        world.send(world.batched(plans[world.run_id]))
    harmful = second.evaluated(second.candidate_ready(plans["run-b"]), HARMFUL, sealed=sealed_counts())
    better = first.evaluated(first.candidate_ready(plans["run-a"]), BETTER, sealed=sealed_counts())
    outcomes = {
        "run-b": only(second.send(harmful), loop_pb2.LoopFinished).outcome,
        "run-a": only(first.send(better), loop_pb2.LoopFinished).outcome,
    }
    assert outcomes == {"run-a": loop_pb2.LOOP_OUTCOME_PROMOTED, "run-b": loop_pb2.LOOP_OUTCOME_REJECTED}
    assert plans["run-a"].plan_id != plans["run-b"].plan_id
    assert {row.plan_id for row in first.state().reservations} == {plans["run-a"].plan_id}
