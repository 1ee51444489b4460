"""People's answers name the question that they answer, and one question has one answer."""

from __future__ import annotations

from functools import reduce

import pytest
from run_events import batch, data_run, planned, position, ref, sent

from mendloop.core.events import Envelope
from mendloop.runs.answering import NotNow, answer_to, open_question
from mendloop.runs.fold import fold
from mendloop.runs.model import RunView
from mendloop.v1 import loop_pb2


def view_of(events: list[Envelope]) -> RunView:
    view: RunView | None = reduce(fold, events, None)
    assert view is not None
    return view


def waiting_for_review() -> list[Envelope]:
    question = loop_pb2.ApprovalRequested(position=position("r1", 1), plan_id="p1", summary="look", review=True)
    made = batch()
    made.awaits_review = True
    return [*data_run()[:11], sent(planned(), second=11), sent(made, second=12), sent(question, second=13)]


def test_a_plan_that_waits_is_answered() -> None:
    view = view_of(data_run()[:10])

    envelope = answer_to(open_question(view), run_id="r1", approved=False, by="Ada", reason="dear", source="cli")

    said = loop_pb2.ApprovalGiven.FromString(envelope.value)
    assert (said.plan_id, said.approved, said.approved_by, said.reason) == ("p1", False, "Ada", "dear")
    assert not said.review


def test_a_batch_that_is_approved_without_a_file_stays_whole() -> None:
    view = view_of(waiting_for_review())

    envelope = answer_to(open_question(view), run_id="r1", approved=True, by="", reason="", source="cli")

    said = loop_pb2.ApprovalGiven.FromString(envelope.value)
    assert said.review
    assert said.reviewed.batch.sha256 == said.reviewed.reviewed_from.sha256 == batch().batch.sha256
    assert said.reviewed.example_count == 30
    assert said.reviewed.manifest.sha256 == ref("d").sha256
    assert [(drop.stage, drop.count) for drop in said.reviewed.drops] == [("decontamination", 2)]


def test_plan_and_batch_have_answers_of_their_own_and_both_answers_to_one_have_one_id() -> None:
    plan, review = open_question(view_of(data_run()[:10])), open_question(view_of(waiting_for_review()))

    def event_id(question: object, *, approved: bool) -> str:
        return answer_to(question, run_id="r1", approved=approved, by="", reason="", source="cli").event_id  # type: ignore[arg-type]  # both are questions

    assert event_id(review, approved=True) == event_id(review, approved=False) != event_id(plan, approved=True)


def test_a_run_that_waits_for_nothing_is_told_so() -> None:
    with pytest.raises(NotNow, match="run r1 does not wait for an answer; it waits for none"):
        open_question(view_of(data_run()[:3]))
    with pytest.raises(NotNow, match=r"does not wait for plan 'p7'; it waits for \['p1'\]"):
        open_question(view_of(data_run()[:10]), plan_id="p7")
    with pytest.raises(NotNow, match="does not wait for a review; it waits for none"):
        open_question(view_of(data_run()[:10]), is_review=True)


def test_of_a_plan_and_its_batch_the_one_that_waits_is_meant() -> None:
    view = view_of(waiting_for_review())

    assert open_question(view).is_review
    assert open_question(view, plan_id="p1", is_review=True).answer is None
