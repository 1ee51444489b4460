"""A committed event as a row of the read model. Knows messages and columns; knows no database."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.message import Message

from mendloop.core.contracts import decode
from mendloop.core.events import Envelope
from mendloop.runs.fold import run_of, time_of
from mendloop.runs.messages import cause_name
from mendloop.runs.stream import StreamEvent
from mendloop.runs.values import UNKNOWN_TIME
from mendloop.v1 import checkpoint_pb2, diagnosis_pb2, evaluation_pb2, operations_pb2

Row = dict[str, Any]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(at: datetime | None) -> int:
    """Microseconds since 1970; 0 for a time that is not known."""
    return 0 if at is None or at == UNKNOWN_TIME else (at - _EPOCH) // _MICROSECOND


def moment(us: int) -> datetime | None:
    """The time of a column; None for 0."""
    return _EPOCH + us * _MICROSECOND if us else None


def plain(text: str) -> str:
    """Text as every database takes it: NUL, which PostgreSQL refuses, is replaced."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def event_row(event: StreamEvent) -> Row:
    """The columns of gateway_events, without the serial."""
    envelope, message = event.envelope, event.message
    position = getattr(message, "position", None)
    return {
        "topic": envelope.topic,
        "part": event.partition,
        "pos": event.offset,
        "run_id": run_id_of(message),
        "event_type": envelope.event_type,
        "event_id": plain(envelope.event_id),
        "at_us": micros(time_of(envelope)),
        "round": int(position.round) if position is not None else 0,
        "arm": plain(position.arm) if position is not None else "",
        "slice_id": slice_id_of(message),
        "cause": cause_name(message.cause) if isinstance(message, diagnosis_pb2.DiagnosisReady) else "",
        "event_key": plain(envelope.key),
        "headers": json.dumps(envelope.headers),
        "value": envelope.value,
    }


def envelope_of(row: Any) -> Envelope:
    """The envelope of a row, as it was committed."""
    return Envelope(row.topic, row.event_key, bytes(row.value), json.loads(row.headers))


def event_of(row: Any) -> tuple[Envelope, Message]:
    """The event of a row, as it was committed."""
    envelope = envelope_of(row)
    return envelope, decode(row.event_type, envelope.value)


def run_id_of(message: Message) -> str:
    """The run that an event belongs to; empty for none."""
    return plain(run_of(message))


def slice_id_of(message: Message) -> str:
    """The slice that an event is about; empty for none."""
    if isinstance(message, evaluation_pb2.EvalFailed | diagnosis_pb2.DiagnosisReady):
        return plain(message.slice.slice_id)
    return ""


def touched_slices(message: Message) -> set[str]:
    """Slices of which an event tells something."""
    if isinstance(message, evaluation_pb2.EvalCompleted):
        return {plain(row.slice.slice_id) for row in message.slices}
    if isinstance(message, checkpoint_pb2.CheckpointPromoted | checkpoint_pb2.CheckpointRejected):
        return {plain(gate.slice.slice_id) for gate in message.gates}
    return {slice_id_of(message)} - {""}


def letter_row(event: StreamEvent, message: operations_pb2.DeadLetter) -> Row:
    """The columns of gateway_dead_letters for a letter that nobody replayed yet."""
    headers = {header.name: header.value for header in message.headers}
    return {
        "letter_id": plain(event.envelope.event_id),
        "run_id": run_id_of(message),
        "event_type": plain(headers.get("ce_type", "")),
        "service": plain(message.handler),
        "reason": plain(message.reason),
        "at_us": micros(time_of(event.envelope)),
        "attempts": message.attempt_count,
        "letter": event.envelope.value,
        "replayed_us": 0,
        "replayed_by": "",
        "replay_reason": "",
    }
