"""What a person may ask of a run, as events: cancel, answer a question, pause, resume, take a promotion back.

Knows views and the bus; knows neither web nor terminal, which share it. The same request twice is one event: ids are
hashes of what is asked and of how often it was asked before.
"""

from __future__ import annotations

from mendloop.bus.base import Bus
from mendloop.core.events import envelope_for, stable_hash
from mendloop.runs.answering import NotNow, Question, answer_to, open_question
from mendloop.runs.model import RunView
from mendloop.v1 import common_pb2, intervention_pb2, loop_pb2

SOURCE = "gateway"
PAUSE, RESUME, ROLL_BACK = "pause", "resume", "roll_back"


def cancel(view: RunView, *, bus: Bus, reason: str, by: str) -> None:
    """Stop a run; asking again changes nothing. Raises NotNow where it is over."""
    _must_go_on(view)
    if view.cancellation is not None:
        return
    message = loop_pb2.LoopCancelled(position=_position(view), reason=reason, cancelled_by=by)
    _publish(bus, view, message, identity=("LoopCancelled", view.run_id))


def answer(
    view: RunView,
    *,
    bus: Bus,
    approved: bool,
    reason: str,
    by: str,
    plan_id: str = "",
    is_review: bool | None = None,
    reviewed: intervention_pb2.DataBatchReady | None = None,
) -> Question:
    """Approve or refuse the plan that waits, or its batch; the same answer again changes nothing.

    Without a plan id it is the one that waits. reviewed is what people left of the batch; without it an approved batch
    stays whole. Raises NotNow where the run is over, does not wait for this, or was answered otherwise.
    """
    question = open_question(view, plan_id=plan_id, is_review=is_review)
    if question.answer is not None and question.answer.approved == approved:
        return question
    if question.answer is not None:
        verdict = "approved" if question.answer.approved else "refused"
        who = question.answer.approved_by or "a local user"
        raise NotNow(f"plan {question.plan_id} was {verdict} by {who} already")
    _must_go_on(view)
    words = {"by": by, "reason": reason, "source": SOURCE}
    bus.publish([answer_to(question, run_id=view.run_id, approved=approved, reviewed=reviewed, **words)])
    return question


def steer(view: RunView, *, bus: Bus, action: str, reason: str, by: str) -> None:
    """Pause, resume or roll back. Asking for the state that is changes nothing.

    Raises NotNow for a pause or resume of a run that is over, and for a rollback where no promotion stands.
    """
    if action == ROLL_BACK:
        _must_have_promoted(view)
    elif (action == PAUSE) is view.is_paused:
        return
    else:
        _must_go_on(view)
    message = loop_pb2.LoopSteered(
        position=_position(view),
        action=loop_pb2.SteeringAction.Value(f"STEERING_ACTION_{action.upper()}"),
        reason=reason,
        steered_by=by,
    )
    before = str(len(view.steerings))
    _publish(bus, view, message, identity=("LoopSteered", view.run_id, action, before))


def _publish(
    bus: Bus,
    view: RunView,
    message: loop_pb2.LoopCancelled | loop_pb2.LoopSteered,
    *,
    identity: tuple[str, ...],
) -> None:
    event_id = stable_hash(SOURCE, *identity)[:32]
    envelope = envelope_for(message, event_id=event_id, source=SOURCE, key=view.run_id, subject=view.run_id)
    bus.publish([envelope])


def _position(view: RunView) -> common_pb2.RunPosition:
    return common_pb2.RunPosition(run_id=view.run_id, round=view.current_round)


def _must_go_on(view: RunView) -> None:
    if view.finish is not None:
        raise NotNow(f"run {view.run_id} is over: {view.finish.outcome}")


def _must_have_promoted(view: RunView) -> None:
    promoted = sum(part.decision is not None and part.decision.promoted for part in view.rounds)
    if promoted <= len(view.rollbacks):
        taken = f"; {len(view.rollbacks)} promotion(s) were taken back already" if view.rollbacks else ""
        raise NotNow(f"run {view.run_id} has no promotion that stands{taken}")
