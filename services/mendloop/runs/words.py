"""An event in words, for a line on a screen or in a chat. Knows messages; knows no place where the words go."""

from __future__ import annotations

from google.protobuf.message import Message

from mendloop.core.wire import conditions_of, slice_name
from mendloop.runs.messages import accuracy, cause_name, outcome_name
from mendloop.runs.model import RunView
from mendloop.runs.values import Accuracy
from mendloop.v1 import diagnosis_pb2, evaluation_pb2, intervention_pb2, loop_pb2


def in_words(message: Message, *, view: RunView | None = None) -> str:
    """What an event says beyond its type and run: slice, accuracy with interval and n, cause; may be empty.

    A diagnosis carries no accuracy; the view of its run has that of the failure that it explains.
    """
    if isinstance(message, evaluation_pb2.EvalFailed):
        measured = _measured(accuracy(message.accuracy))
        return f"{slice_name(conditions_of(message.slice))}: {measured}, weak below {message.threshold:g}"
    if isinstance(message, evaluation_pb2.EvalCompleted):
        weak = message.weak_slice_count
        return f"{_measured(accuracy(message.accuracy))}, {weak} weak slice{'' if weak == 1 else 's'}"
    if isinstance(message, diagnosis_pb2.DiagnosisReady):
        verdict = f"{cause_name(message.cause)} (confidence {message.confidence:.2f})"
        said = f": {message.summary}" if message.summary else ""
        failed = _failed(message, view)
        return f"{slice_name(conditions_of(message.slice))}: {failed}{verdict}{said}"
    if isinstance(message, intervention_pb2.InterventionPlanned):
        items = "; ".join(
            f"{item.example_count} examples for {slice_name(conditions_of(item.slice))} ({cause_name(item.cause)})"
            for item in message.items
        )
        return items or ", ".join(f"{fix.setting} = {fix.value_json}" for fix in message.fixes)
    if isinstance(message, loop_pb2.LoopFinished):
        outcome = outcome_name(message.outcome)
        return f"{outcome}: {message.summary}" if message.summary else outcome
    return str(getattr(message, "summary", ""))


def _failed(message: diagnosis_pb2.DiagnosisReady, view: RunView | None) -> str:
    """The accuracy of the slice that a verdict is about, where the view holds it."""
    failures = [failure for round_ in view.rounds for failure in round_.failures] if view else []
    for failure in failures:
        if (failure.evaluation_id, failure.slice.slice_id) == (message.evaluation_id, message.slice.slice_id):
            return f"{_measured(failure.accuracy)}, "
    return ""


def _measured(found: Accuracy) -> str:
    if not found.n:
        return "nothing measured"
    return f"{found.correct}/{found.n} right [{found.low:.3f}, {found.high:.3f}]"
