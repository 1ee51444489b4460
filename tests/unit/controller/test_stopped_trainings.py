"""Trainings that become no checkpoint, and batches of no example: each ends in a clear state, its budget settled."""

from __future__ import annotations

from pathlib import Path

import pytest
from controller_world import BETTER, World, names, only, ref, sealed_counts

from mendloop.v1 import checkpoint_pb2, common_pb2, intervention_pb2, loop_pb2


def _failed(
    plan: intervention_pb2.InterventionPlanned, cause: checkpoint_pb2.TrainingFailureCause.ValueType
) -> checkpoint_pb2.TrainingFailed:
    return checkpoint_pb2.TrainingFailed(
        position=plan.position,
        plan_id=plan.plan_id,
        cause=cause,
        reason="its GPU-seconds are spent: 41 of 40 after step 5 of 12",
        step=5,
        evidence=ref("evidence"),
        metering=common_pb2.Metering(wall_s=41, gpu_s=41, token_count=77),
        gpu_s_limit=plan.gpu_s_limit,
    )


def _settled(world: World) -> dict[str, float]:
    rows = world.state().reservations
    assert all(row.is_settled for row in rows)
    return {row.resource: row.used for row in rows}


def test_spent_gpu_seconds_end_the_run_with_what_they_were_and_settle_them(tmp_path: Path) -> None:
    world = World(tmp_path, budget={"gpu_s": 40})
    plan = world.until_plan()
    world.send(world.batched(plan))

    out = world.send(_failed(plan, checkpoint_pb2.TRAINING_FAILURE_CAUSE_BUDGET))

    assert names(out) == ["BudgetExceeded", "LoopFinished"]
    exceeded, finished = only(out, loop_pb2.BudgetExceeded), only(out, loop_pb2.LoopFinished)
    assert (exceeded.resource, exceeded.limit, exceeded.used) == ("gpu_s", 40, 41)
    assert exceeded.requested == pytest.approx(41 / 5)
    assert finished.outcome == loop_pb2.LOOP_OUTCOME_BUDGET_EXCEEDED
    assert finished.checkpoint == ref("base")
    assert "its GPU-seconds are spent: 41 of 40 after step 5 of 12" in finished.summary
    assert finished.metering.gpu_s == 41
    used = _settled(world)
    assert (used["gpu_s"], used["train_tokens"]) == (41, 77)


def test_spent_gpu_seconds_of_a_later_round_leave_what_stands(tmp_path: Path) -> None:
    world = World(tmp_path, rounds=2, budget={"gpu_s": 80})
    first = world.until_plan()
    assert first.gpu_s_limit == 40
    ready = world.candidate_ready(first)
    better = world.evaluated(ready, {**BETTER, "jump": 60}, weak=1, sealed=sealed_counts())
    out = world.send(world.batched(first, count=20), better, world.diagnosed(better, failed=40))
    second = only(out, intervention_pb2.InterventionPlanned)

    out = world.send(world.batched(second, count=20), _failed(second, checkpoint_pb2.TRAINING_FAILURE_CAUSE_BUDGET))

    finished = only(out, loop_pb2.LoopFinished)
    assert finished.outcome == loop_pb2.LOOP_OUTCOME_PROMOTED
    assert finished.checkpoint == ready.checkpoint


def test_a_stopped_training_ends_its_run_once(tmp_path: Path) -> None:
    world = World(tmp_path, budget={"gpu_s": 40})
    plan = world.until_plan()
    failed = _failed(plan, checkpoint_pb2.TRAINING_FAILURE_CAUSE_BUDGET)
    world.send(world.batched(plan), failed)

    failed.metering.wall_s = 42  # another event that says the same

    assert world.send(failed) == []


def test_a_base_that_its_limit_stopped_ends_the_run_before_any_plan(tmp_path: Path) -> None:
    world = World(tmp_path, budget={"gpu_s": 40})
    world.send(world.requested())
    failed = checkpoint_pb2.TrainingFailed(
        position=world.position(), cause=checkpoint_pb2.TRAINING_FAILURE_CAUSE_BUDGET, reason="spent", gpu_s_limit=40
    )

    out = world.send(failed)

    assert names(out) == ["BudgetExceeded", "LoopFinished"]
    assert only(out, loop_pb2.LoopFinished).outcome == loop_pb2.LOOP_OUTCOME_BUDGET_EXCEEDED


def test_unhealthy_data_fails_the_run_with_the_readings_and_settles_the_budget(tmp_path: Path) -> None:
    world = World(tmp_path)
    plan = world.until_plan()
    failed = _failed(plan, checkpoint_pb2.TRAINING_FAILURE_CAUSE_UNHEALTHY)
    failed.reason = "the training data is unhealthy: duplicates: 9 of 10 examples repeat another one"

    out = world.send(world.batched(plan), failed)

    assert names(out) == ["LoopFinished"]
    finished = only(out, loop_pb2.LoopFinished)
    assert finished.outcome == loop_pb2.LOOP_OUTCOME_FAILED
    assert "the training failed (unhealthy): the training data is unhealthy: duplicates" in finished.summary
    assert _settled(world)["train_tokens"] == 77


def test_an_empty_batch_with_a_repaired_corpus_is_waited_for_and_judged(tmp_path: Path) -> None:
    world = World(tmp_path, review=True)  # nothing new: nothing to review
    plan = world.until_plan()
    batch = world.batched(plan, count=0)
    batch.corpus.CopyFrom(ref("repaired"))

    assert world.send(batch) == []
    ready = world.candidate_ready(plan)
    out = world.send(ready, world.evaluated(ready, BETTER, sealed=sealed_counts()))

    assert names(out) == ["CheckpointPromoted", "LoopFinished"]
    assert _settled(world)["new_examples"] == 0


def test_an_empty_batch_with_a_corpus_ends_a_run_that_learns_from_preferences(tmp_path: Path) -> None:
    world = World(tmp_path, fix={"objective": "dpo"})
    plan = world.until_plan()
    batch = world.batched(plan, count=0)
    batch.corpus.CopyFrom(ref("repaired"))

    finished = only(world.send(batch), loop_pb2.LoopFinished)

    assert finished.outcome == loop_pb2.LOOP_OUTCOME_ABSTAINED
    assert set(_settled(world).values()) == {0.0, 0.13}  # the seconds of making it


def test_what_people_leave_of_a_batch_is_trained_with_the_corpus_that_came_with_it(tmp_path: Path) -> None:
    world = World(tmp_path, review=True)
    plan = world.until_plan()
    batch = world.batched(plan)
    batch.record = "Preference"
    batch.corpus.CopyFrom(ref("repaired"))
    world.send(batch)

    sent = only(world.send(world.reviewed(plan, count=50)), intervention_pb2.DataBatchReady)

    assert (sent.corpus, sent.record, sent.example_count) == (ref("repaired"), "Preference", 50)
