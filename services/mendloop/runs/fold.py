"""fold: one more event of a run in its view. Pure; the order of events and their repetition change nothing.

Each event replaces one part, or takes its place among its like by an identity (slice, shard, event id). Of two events
with one identity the older counts, so that a second answer to an approval changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

from mendloop.bus.base import Delivery
from mendloop.core.contracts import decode
from mendloop.core.errors import InvalidEvent
from mendloop.core.events import Envelope
from mendloop.runs import messages, parts
from mendloop.runs.model import RoundView, RunView
from mendloop.runs.values import UNKNOWN_TIME, Stamp
from mendloop.v1 import (
    arms_pb2,
    checkpoint_pb2,
    diagnosis_pb2,
    evaluation_pb2,
    intervention_pb2,
    loop_pb2,
    operations_pb2,
)


class _Stamped(Protocol):
    @property
    def stamp(self) -> Stamp: ...


P = TypeVar("P", bound=_Stamped)


def fold(view: RunView | None, event: Envelope | Delivery) -> RunView:
    """The view after one more event of the run. Raises InvalidEvent where it cannot be read or names another run."""
    envelope = event.envelope if isinstance(event, Delivery) else event
    return fold_message(view, envelope, decode(envelope.event_type, envelope.value))


def fold_message(view: RunView | None, envelope: Envelope, message: Message) -> RunView:
    """The same for a message that is decoded already."""
    run_id = run_of(message)
    if not run_id or (view is not None and view.run_id != run_id):
        raise InvalidEvent(f"event {envelope.event_id} belongs to run {run_id!r}, not to {view and view.run_id!r}")
    stamp = Stamp(time_of(envelope), envelope.event_id)
    view = _seen(view or RunView(run_id), stamp.at)
    on_run = _ON_RUN.get(type(message))
    if on_run is not None:
        return on_run(view, message, stamp)
    on_round = _ON_ROUND.get(type(message))
    return view if on_round is None else _with_round(view, on_round, message, stamp)


def run_of(message: Message) -> str:
    """The run that a message belongs to; empty where it belongs to none. A dead letter belongs to its event's run."""
    if isinstance(message, operations_pb2.DeadLetter):
        headers = {header.name: header.value for header in message.headers}
        try:
            return run_of(decode(headers.get("ce_type", ""), message.value))
        except InvalidEvent:
            return headers.get("ce_subject", "")
    position = getattr(message, "position", None)
    return str(position.run_id) if position is not None else ""


def time_of(envelope: Envelope) -> datetime:
    """When the event was made; UNKNOWN_TIME where its ce_time cannot be read."""
    try:
        at = datetime.fromisoformat(envelope.headers.get("ce_time", ""))
    except ValueError:
        return UNKNOWN_TIME
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _seen(view: RunView, at: datetime) -> RunView:
    if at == UNKNOWN_TIME:
        return view
    first = at if view.first_at == UNKNOWN_TIME else min(view.first_at, at)
    return replace(view, first_at=first, last_at=max(view.last_at, at))


def _with_round(
    view: RunView, change: Callable[[RoundView, Any, Stamp], RoundView], message: Any, stamp: Stamp
) -> RunView:
    place = (int(message.position.round), str(message.position.arm))
    rounds = {(part.number, part.arm): part for part in view.rounds}
    rounds[place] = change(rounds.get(place) or RoundView(*place), message, stamp)
    return replace(view, rounds=tuple(rounds[key] for key in sorted(rounds)))


def _older(known: P | None, new: P) -> P:
    return new if known is None or new.stamp < known.stamp else known


def _among(known: tuple[P, ...], new: P, *, key: Callable[[P], Any]) -> tuple[P, ...]:
    by_key = {key(part): part for part in known}
    by_key[key(new)] = _older(by_key.get(key(new)), new)
    return tuple(by_key[name] for name in sorted(by_key))


def _requested(view: RunView, m: loop_pb2.LoopRequested, at: Stamp) -> RunView:
    part = parts.Request(at, messages.artifact(m.run_spec), m.requested_by)
    return replace(view, request=_older(view.request, part))


def _cancelled(view: RunView, m: loop_pb2.LoopCancelled, at: Stamp) -> RunView:
    return replace(view, cancellation=_older(view.cancellation, parts.Cancellation(at, m.reason, m.cancelled_by)))


def _steered(view: RunView, m: loop_pb2.LoopSteered, at: Stamp) -> RunView:
    part = messages.steering(m, at)
    return replace(view, steerings=_in_time(view.steerings, part))


def _rolled_back(view: RunView, m: checkpoint_pb2.CheckpointRolledBack, at: Stamp) -> RunView:
    return replace(view, rollbacks=_in_time(view.rollbacks, messages.rollback(m, at)))


def _in_time(known: tuple[P, ...], new: P) -> tuple[P, ...]:
    """Parts of different events, oldest first, each once."""
    by_event = {part.stamp.event_id: part for part in (*known, new)}
    return tuple(sorted(by_event.values(), key=lambda part: part.stamp))


def _stopped(view: RunView, m: loop_pb2.BudgetExceeded, at: Stamp) -> RunView:
    part = parts.BudgetStop(at, m.resource, m.limit, m.used, m.requested)
    return replace(view, budget_stops=_among(view.budget_stops, part, key=lambda p: p.stamp.event_id))


def _died(view: RunView, m: operations_pb2.DeadLetter, at: Stamp) -> RunView:
    part = messages.letter(m, at)
    return replace(view, dead_letters=_among(view.dead_letters, part, key=lambda p: p.stamp.event_id))


def _finished(view: RunView, m: loop_pb2.LoopFinished, at: Stamp) -> RunView:
    return replace(view, finish=_older(view.finish, messages.finish(m, at)))


def _ready(part: RoundView, m: checkpoint_pb2.CheckpointReady, at: Stamp) -> RoundView:
    return replace(part, ready=_older(part.ready, messages.checkpoint(m, at)))


def _training_failed(part: RoundView, m: checkpoint_pb2.TrainingFailed, at: Stamp) -> RoundView:
    return replace(part, training_failure=_older(part.training_failure, messages.failed_training(m, at)))


def _shard(part: RoundView, m: evaluation_pb2.EvaluationShard, at: Stamp) -> RoundView:
    return replace(part, shard_count=max(part.shard_count, m.shard_count))


def _scored(part: RoundView, m: evaluation_pb2.ShardScored, at: Stamp) -> RoundView:
    shard = parts.ScoredShard(at, m.evaluation_id, m.shard_index, messages.cost(m.metering))
    shards = _among(part.shards, shard, key=lambda s: (s.evaluation_id, s.index))
    return replace(part, shards=shards, shard_count=max(part.shard_count, m.shard_count))


def _evaluated(part: RoundView, m: evaluation_pb2.EvalCompleted, at: Stamp) -> RoundView:
    return replace(part, evaluation=_older(part.evaluation, messages.evaluation(m, at)))


def _failed(part: RoundView, m: evaluation_pb2.EvalFailed, at: Stamp) -> RoundView:
    failures = _among(part.failures, messages.failure(m, at), key=lambda f: (f.evaluation_id, f.slice.slice_id))
    return replace(part, failures=failures)


def _diagnosed(part: RoundView, m: diagnosis_pb2.DiagnosisReady, at: Stamp) -> RoundView:
    found = messages.diagnosis(m, at)
    return replace(part, diagnoses=_among(part.diagnoses, found, key=lambda d: (d.evaluation_id, d.slice.slice_id)))


def _asked(part: RoundView, m: loop_pb2.ApprovalRequested, at: Stamp) -> RoundView:
    question = parts.ApprovalQuestion(at, m.plan_id, m.summary)
    if m.review:
        return replace(part, review_question=_older(part.review_question, question))
    return replace(part, question=_older(part.question, question))


def _answered(part: RoundView, m: loop_pb2.ApprovalGiven, at: Stamp) -> RoundView:
    answer = parts.ApprovalAnswer(at, m.plan_id, m.approved, m.approved_by, m.reason)
    if m.review:
        return replace(part, review_answer=_older(part.review_answer, answer))
    return replace(part, answer=_older(part.answer, answer))


def _planned(part: RoundView, m: intervention_pb2.InterventionPlanned, at: Stamp) -> RoundView:
    return replace(part, plan=_older(part.plan, messages.plan(m, at)))


def _batch(part: RoundView, m: intervention_pb2.DataBatchReady, at: Stamp) -> RoundView:
    if m.reviewed_from.sha256:
        return replace(part, reviewed=_older(part.reviewed, messages.batch(m, at)))
    return replace(part, batch=_older(part.batch, messages.batch(m, at)))


def _promoted(part: RoundView, m: checkpoint_pb2.CheckpointPromoted, at: Stamp) -> RoundView:
    return replace(part, decision=_older(part.decision, messages.promotion(m, at)))


def _compared(part: RoundView, m: arms_pb2.ArmCompared, at: Stamp) -> RoundView:
    return replace(part, comparison=_older(part.comparison, messages.comparison(m, at)))


def _rejected(part: RoundView, m: checkpoint_pb2.CheckpointRejected, at: Stamp) -> RoundView:
    return replace(part, decision=_older(part.decision, messages.rejection(m, at)))


_ON_RUN: dict[type[Message], Callable[[RunView, Any, Stamp], RunView]] = {
    loop_pb2.LoopRequested: _requested,
    loop_pb2.LoopCancelled: _cancelled,
    loop_pb2.LoopSteered: _steered,
    checkpoint_pb2.CheckpointRolledBack: _rolled_back,
    loop_pb2.BudgetExceeded: _stopped,
    loop_pb2.LoopFinished: _finished,
    operations_pb2.DeadLetter: _died,
}
_ON_ROUND: dict[type[Message], Callable[[RoundView, Any, Stamp], RoundView]] = {
    checkpoint_pb2.CheckpointReady: _ready,
    checkpoint_pb2.TrainingFailed: _training_failed,
    evaluation_pb2.EvaluationShard: _shard,
    evaluation_pb2.ShardScored: _scored,
    evaluation_pb2.EvalCompleted: _evaluated,
    evaluation_pb2.EvalFailed: _failed,
    diagnosis_pb2.DiagnosisReady: _diagnosed,
    loop_pb2.ApprovalRequested: _asked,
    loop_pb2.ApprovalGiven: _answered,
    intervention_pb2.InterventionPlanned: _planned,
    intervention_pb2.DataBatchReady: _batch,
    checkpoint_pb2.CheckpointPromoted: _promoted,
    checkpoint_pb2.CheckpointRejected: _rejected,
    arms_pb2.ArmCompared: _compared,
}
