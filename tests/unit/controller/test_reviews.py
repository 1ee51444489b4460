"""A batch that people review holds the run until they answer, and then only what they left counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from controller_world import BETTER, World, names, only, ref, sealed_counts

from mendloop.core.errors import InvalidEvent
from mendloop.v1 import intervention_pb2, loop_pb2


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, review=True)


def used(world: World, resource: str) -> float:
    [row] = [row for row in world.state().reservations if row.resource == resource]
    assert row.is_settled
    return row.used


def test_a_batch_is_asked_about_once_and_holds_the_run(world: World) -> None:
    plan = world.until_plan()

    question = only(world.send(world.batched(plan)), loop_pb2.ApprovalRequested)

    assert (question.plan_id, question.review, question.position.round) == (plan.plan_id, True, 1)
    assert question.summary.startswith("64 examples wait for a review")
    assert world.send(world.batched(plan, count=63)) == []


def test_what_people_leave_goes_to_training_under_the_plan_that_asked_for_it(world: World) -> None:
    plan = world.until_plan()
    world.send(world.batched(plan))
    answer = world.reviewed(plan, count=50)
    answer.reviewed.plan.plan_id = "another"
    answer.reviewed.awaits_review = True

    sent = only(world.send(answer), intervention_pb2.DataBatchReady)

    assert sent.plan == plan
    assert sent.position == plan.position
    assert not sent.awaits_review
    assert (sent.batch, sent.example_count, sent.reviewed_from) == (ref("left"), 50, ref("batch"))
    assert world.send(sent) == []


def test_budget_is_settled_with_what_people_left(world: World) -> None:
    plan = world.until_plan()
    world.send(world.batched(plan), world.reviewed(plan, count=50))
    candidate = world.candidate_ready(plan)

    out = world.send(candidate, world.evaluated(candidate, BETTER, sealed=sealed_counts()))

    assert names(out) == ["CheckpointPromoted", "LoopFinished"]
    assert used(world, "new_examples") == 50
    assert used(world, "wall_s") == pytest.approx(2.3 + 0.7 + 0.13)


def test_refused_batch_ends_the_run_with_who_and_why_and_adds_no_example(world: World) -> None:
    plan = world.until_plan()
    world.send(world.batched(plan))
    answer = world.reviewed(plan, approved=False)
    answer.reason = "answers are wrong"

    finished = only(world.send(answer), loop_pb2.LoopFinished)

    assert finished.outcome == loop_pb2.LOOP_OUTCOME_ABSTAINED
    assert "Ada refused the batch of round 1: answers are wrong; nothing was trained" in finished.summary
    assert (used(world, "new_examples"), used(world, "train_tokens")) == (0, 0)
    assert used(world, "wall_s") == pytest.approx(0.13)


def test_a_batch_of_which_nothing_is_left_is_refused(world: World) -> None:
    plan = world.until_plan()
    world.send(world.batched(plan))

    finished = only(world.send(world.reviewed(plan, count=0)), loop_pb2.LoopFinished)

    assert "Ada left no example of the batch of round 1" in finished.summary


def test_the_first_answer_counts(world: World) -> None:
    plan = world.until_plan()
    world.send(world.batched(plan), world.reviewed(plan, count=50))

    assert world.send(world.reviewed(plan, approved=False)) == []


def test_an_approval_that_does_not_say_which_rows_is_refused_for_good(world: World) -> None:
    plan = world.until_plan()
    world.send(world.batched(plan))
    answer = world.reviewed(plan)
    answer.ClearField("reviewed")

    with pytest.raises(InvalidEvent, match="does not say which rows"):
        world.send(answer)


def test_an_empty_batch_is_not_asked_about(world: World) -> None:
    out = world.send(world.batched(world.until_plan(), count=0))

    assert names(out) == ["LoopFinished"]


def test_a_run_that_is_cancelled_while_people_look_is_settled_without_examples(world: World) -> None:
    plan = world.until_plan()
    world.send(world.batched(plan))

    finished = only(world.send(loop_pb2.LoopCancelled(position=world.position())), loop_pb2.LoopFinished)

    assert finished.outcome == loop_pb2.LOOP_OUTCOME_CANCELLED
    assert used(world, "new_examples") == 0


def test_a_run_without_review_sends_nothing_and_asks_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)

    assert world.send(world.batched(world.until_plan())) == []
