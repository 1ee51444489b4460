"""A view is the set of a run's events: order and repetition change nothing, and each stage is told when it works."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from functools import reduce

import pytest
from run_events import (
    START,
    batch,
    data_run,
    dead_letter,
    evaluated,
    finished,
    planned,
    position,
    ready,
    requested,
    sent,
)

from mendloop.bus.base import Delivery
from mendloop.core.errors import InvalidEvent
from mendloop.core.events import Envelope
from mendloop.runs.view import RunView, fold, seconds_by_stage, stage_of, state_of, to_document
from mendloop.v1 import checkpoint_pb2, common_pb2, diagnosis_pb2, loop_pb2


def _folded(events: list[Envelope]) -> RunView:
    view = reduce(fold, events, None)
    assert view is not None
    return view


def test_whole_run_is_told_with_all_its_numbers() -> None:
    view = _folded(data_run())
    base, fixed = view.rounds
    assert (view.run_id, view.outcome, view.current_round, state_of(view)) == ("r1", "promoted", 1, "finished")
    assert base.evaluation is not None
    assert base.evaluation.accuracy.value == 0.5
    assert [failure.slice.name for failure in base.failures] == ["turn=right ∧ verb=jump", "verb=jump"]
    assert {d.cause for d in base.diagnoses} == {"DATA_MISSING"}
    assert base.diagnoses[0].evidence[0].reading == "none"
    assert fixed.plan is not None
    assert [(i.slice.name, i.example_count) for i in fixed.plan.items] == [("verb=jump", 32)]
    assert fixed.batch is not None
    assert fixed.batch.drops[0].count == 2
    assert fixed.answer is not None
    assert fixed.answer.approved
    assert fixed.decision is not None
    assert (fixed.decision.promoted, fixed.decision.gates[0].after) == (True, 0.8)
    assert (fixed.shards_done, fixed.shard_count) == (2, 2)


def test_cost_counts_each_piece_of_work_once() -> None:
    cost = _folded(data_run()).cost
    assert cost.wall_s == 2 * 7 + 2 * 3 + 2 * 1 + 0.5
    assert cost.token_count == 2 * 1000 + 2 * 600


def test_scored_shards_count_until_the_evaluation_is_complete() -> None:
    view = _folded(data_run()[:4])
    assert view.cost.wall_s == 7 + 2 * 1.5
    assert view.rounds[0].shards_done == 2


def test_order_changes_nothing() -> None:
    events = data_run()
    expected = _folded(events)
    rng = random.Random(7)
    for _ in range(50):
        rng.shuffle(events)
        assert _folded(events) == expected


def test_repeated_events_change_nothing() -> None:
    events = [*data_run(), dead_letter(requested())]
    assert _folded([event for event in events for _ in range(2)]) == _folded(events)


def test_each_step_names_its_state() -> None:
    states, view = [], None
    for event in data_run():
        view = fold(view, event)
        states.append(state_of(view))
    assert states == [
        "requested",
        *["evaluating"] * 3,
        *["diagnosing"] * 4,
        "planning",
        "waiting-approval",
        "planning",
        "generating",
        "training",
        *["evaluating"] * 3,
        "gating",
        "planning",
        "finished",
    ]


def test_seconds_per_stage_are_the_times_between_events() -> None:
    assert seconds_by_stage(_folded(data_run())) == {
        "base training": 1.0,
        "evaluation": 3.0 + 3.0,
        "diagnosis": 4.0,
        "planning": 1.0 + 1.0,
        "approval": 1.0,
        "generation": 1.0,
        "training": 1.0,
        "gates": 1.0,
    }


def test_stage_that_works_counts_up_to_now() -> None:
    view = _folded(data_run()[:2])
    now = START.replace(second=START.second + 11)
    assert stage_of(view) == "evaluation"
    assert seconds_by_stage(view) == {"base training": 1.0}
    assert seconds_by_stage(view, now=now)["evaluation"] == 10.0


def test_training_fix_trains_without_a_batch() -> None:
    plan = planned(kind=diagnosis_pb2.INTERVENTION_KIND_TRAINING_FIX)
    view = _folded([*data_run()[:9], sent(plan, second=20)])
    assert state_of(view) == "training"
    assert view.rounds[1].plan is not None
    assert view.rounds[1].plan.fixes[0].setting == "train.eos_in_loss"


def test_evaluation_fix_measures_the_same_checkpoint_again_and_is_judged() -> None:
    plan = planned(kind=diagnosis_pb2.INTERVENTION_KIND_EVALUATION_FIX)
    measuring = _folded([*data_run()[:9], sent(plan, second=20)])
    assert state_of(measuring) == "evaluating"
    result = evaluated(round=1, weak=0)
    result.checkpoint_ready.kind = 3
    judged = fold(measuring, sent(result, second=30))
    assert state_of(judged) == "gating"
    assert judged.rounds[1].checkpoint is not None
    assert judged.rounds[1].checkpoint.kind == "remeasured"


def test_empty_batch_starts_no_training() -> None:
    view = _folded([*data_run()[:9], sent(planned(), second=20), sent(batch(example_count=0), second=21)])
    assert state_of(view) == "planning"


def test_finished_run_has_no_stage_at_work() -> None:
    abstained = finished(outcome=loop_pb2.LOOP_OUTCOME_ABSTAINED)
    view = _folded([*data_run()[:9], sent(abstained, second=30)])
    assert (state_of(view), stage_of(view), view.outcome) == ("finished", "", "abstained")
    assert seconds_by_stage(view)["planning"] == 22.0


def test_cancelled_run_is_cancelling_until_it_is_over() -> None:
    cancel = sent(loop_pb2.LoopCancelled(position=position("r1"), reason="enough", cancelled_by="ada"), second=9)
    assert state_of(_folded([requested(), cancel])) == "cancelling"
    assert state_of(_folded([requested(), cancel, sent(finished(), second=10)])) == "finished"


def test_first_answer_to_an_approval_counts() -> None:
    question, answer = data_run()[9:11]
    later = sent(
        loop_pb2.ApprovalGiven(position=position("r1", 1), plan_id="p1", approved=False), second=99, event_id="late"
    )
    for events in ([question, answer, later], [later, answer, question]):
        part = _folded(events).rounds[0]
        assert part.answer is not None
        assert part.answer.approved


def test_dead_letter_belongs_to_the_run_of_its_event() -> None:
    view = _folded([requested(), dead_letter(sent(ready(), second=3))])
    assert view.dead_letters[0].handler == "trainer"
    assert view.dead_letters[0].event_type == "mendloop.v1.CheckpointReady"


def test_dead_letter_of_unreadable_bytes_belongs_to_its_subject() -> None:
    broken = replace(sent(ready(), second=3), value=b"\xff")
    assert len(_folded([requested(), dead_letter(broken)]).dead_letters) == 1


def test_event_of_another_run_is_refused() -> None:
    view = _folded([requested("r1")])
    with pytest.raises(InvalidEvent, match="'r2', not to 'r1'"):
        fold(view, requested("r2"))


def test_delivery_folds_like_its_envelope() -> None:
    envelope = requested()
    assert fold(None, Delivery(envelope, envelope.topic, 0, 0)) == fold(None, envelope)


def test_event_without_a_time_is_folded_and_has_no_duration() -> None:
    plain = requested()
    timeless = replace(plain, headers={k: v for k, v in plain.headers.items() if k != "ce_time"})
    view = _folded([timeless, sent(ready(), second=1)])
    assert view.request is not None
    assert "base training" not in seconds_by_stage(view)


def test_document_is_json_without_loss_of_uncertainty() -> None:
    document = json.loads(json.dumps(to_document(_folded(data_run()))))
    evaluation = document["rounds"][0]["evaluation"]
    assert evaluation["accuracy"]["n"] == 60
    assert 0 < evaluation["accuracy"]["low"] < 0.5 < evaluation["accuracy"]["high"] < 1
    assert evaluation["slices"][0]["slice"]["name"] == "verb=jump"
    assert document["rounds"][1]["decision"]["gates"][0]["requirement"] == "p < 0.05"
    assert document["started_at"] == START.isoformat()
    assert document["rounds"][0]["diagnoses"][0]["evidence"][0]["probe"] == "coverage"


def test_a_failed_training_stands_in_its_round_with_cause_and_cost() -> None:
    failed = checkpoint_pb2.TrainingFailed(
        position=position("r1", round=1),
        cause=checkpoint_pb2.TRAINING_FAILURE_CAUSE_NOT_FINITE,
        reason="the loss became nan at step 3",
        step=3,
        metering=common_pb2.Metering(wall_s=2.0, token_count=90),
    )

    view = _folded([sent(failed)])

    (part,) = view.rounds
    assert part.training_failure is not None
    assert (part.training_failure.cause, part.training_failure.step) == ("not_finite", 3)
    assert view.cost.token_count == 90
    assert json.loads(json.dumps(to_document(view)))["rounds"][0]["training_failure"]["cause"] == "not_finite"


def test_a_batch_waits_for_its_review_and_training_begins_with_what_people_left() -> None:
    made, left = batch(), batch(example_count=20)
    made.awaits_review = True
    left.reviewed_from.CopyFrom(made.batch)
    at = position("r1", 1)
    question = loop_pb2.ApprovalRequested(position=at, plan_id="p1", summary="look", review=True)
    answer = loop_pb2.ApprovalGiven(position=at, plan_id="p1", approved=True, review=True, approved_by="bo")
    waiting = [*data_run()[:12], sent(made, second=12), sent(question, second=13)]
    trained = [*waiting, sent(answer, second=42), sent(left, second=43)]

    assert state_of(_folded(waiting)) == "waiting-review"
    assert state_of(_folded(trained)) == "training"
    assert seconds_by_stage(_folded(trained))["review"] == 30.0
    part = _folded(trained).rounds[1]
    assert part.answer is not None
    assert part.answer.approved_by == "bo"
    assert (part.batch and part.batch.example_count, part.added_count) == (30, 20)
    assert _folded(waiting).rounds[1].added_count == 0
    assert _folded(list(reversed(trained))) == _folded(trained)
    document = to_document(_folded(trained))["rounds"][1]  # type: ignore[index]  # rounds are a list
    assert document["review"]["answer"]["approved"]
    assert document["reviewed"]["example_count"] == 20
