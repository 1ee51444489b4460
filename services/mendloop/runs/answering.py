"""People's answers: to a plan that waits, and to a batch that waits for its review. Knows run views and messages.

Every answer to one question has one event id: of two at the same moment the first in the log counts, for everybody.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from mendloop.core.errors import Permanent
from mendloop.core.events import Envelope, envelope_for, stable_hash
from mendloop.core.wire import artifact_ref
from mendloop.runs.model import RoundView, RunView
from mendloop.runs.parts import ApprovalAnswer
from mendloop.v1 import common_pb2, intervention_pb2, loop_pb2


class NotNow(Permanent):
    """The request is right, but not in the run's state."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question of the controller in a round; answer is None while it is open."""

    part: RoundView
    plan_id: str
    is_review: bool
    answer: ApprovalAnswer | None


def questions(view: RunView) -> list[Question]:
    """Every question of the run, in the order of its rounds."""
    return [question for part in view.rounds for question in _of_round(part)]


def open_question(view: RunView, *, plan_id: str = "", is_review: bool | None = None) -> Question:
    """The newest question that the run waits with; or that of a plan, answered or not. is_review: of one kind alone.

    Raises NotNow where there is none.
    """
    asked = [one for one in questions(view) if is_review in (None, one.is_review)]
    waiting = [one for one in asked if one.answer is None]
    wanted = plan_id or (waiting[-1].plan_id if waiting else "")
    of_plan = [one for one in asked if one.plan_id == wanted]
    if of_plan:
        return next((one for one in of_plan if one.answer is None), of_plan[-1])
    if view.finish is not None:
        raise NotNow(f"run {view.run_id} is over: {view.finish.outcome}")
    what = "for a review" if is_review else "for an answer"
    if plan_id:
        what = f"{what} of plan {plan_id[:100]!r}" if is_review else f"for plan {plan_id[:100]!r}"
    raise NotNow(f"run {view.run_id} does not wait {what}; it waits for {[one.plan_id for one in waiting] or 'none'}")


def answer_to(
    question: Question,
    *,
    run_id: str,
    approved: bool,
    by: str,
    reason: str,
    source: str,
    reviewed: intervention_pb2.DataBatchReady | None = None,
) -> Envelope:
    """The event of an answer. reviewed is what people left of the batch; without it an approved batch stays whole."""
    part = question.part
    message = loop_pb2.ApprovalGiven(
        position=common_pb2.RunPosition(run_id=run_id, round=part.number, arm=part.arm),
        plan_id=question.plan_id,
        approved=approved,
        approved_by=by,
        reason=reason,
        review=question.is_review,
    )
    if question.is_review and approved:
        message.reviewed.CopyFrom(reviewed if reviewed is not None else _as_it_is(part))
    subject = (question.plan_id, "review") if question.is_review else (question.plan_id,)
    event_id = stable_hash("gateway", "ApprovalGiven", run_id, *subject)[:32]
    return envelope_for(message, event_id=event_id, source=source, key=run_id, subject=run_id)


def _of_round(part: RoundView) -> Iterator[Question]:
    if part.question is not None:
        yield Question(part, part.question.plan_id, False, part.answer)
    if part.review_question is not None:
        yield Question(part, part.review_question.plan_id, True, part.review_answer)


def _as_it_is(part: RoundView) -> intervention_pb2.DataBatchReady:
    """The round's batch, of which a person leaves everything. Raises Permanent where it is not known."""
    batch = part.batch
    if batch is None or batch.artifact is None:
        raise Permanent(f"the batch of round {part.number} is not known yet; ask again in some seconds")
    return intervention_pb2.DataBatchReady(
        batch=artifact_ref(batch.artifact),
        example_count=batch.example_count,
        drops=[intervention_pb2.DropCount(**asdict(drop)) for drop in batch.drops],
        manifest=artifact_ref(batch.manifest),
        reviewed_from=artifact_ref(batch.artifact),
    )
