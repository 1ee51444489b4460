"""Envelopes: a protobuf value with its CloudEvents 1.0 headers (binary mode). Knows no broker.

Event ids are hashes, so that a handler run twice on one input gives the same ids (design: exactly-once effect).
"""

from __future__ import annotations

import hashlib
import math
import secrets
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from google.protobuf.message import Message

from mendloop.core.contracts import contract_of
from mendloop.core.errors import InvalidEvent

CONTENT_TYPE = "application/protobuf"
RETRY_TOPIC_HEADER = "mendloop_topic"
RETRY_ATTEMPT_HEADER = "mendloop_attempt"
RETRY_NOT_BEFORE_HEADER = "mendloop_not_before"
_REQUIRED = ("ce_id", "ce_type", "ce_source")


@dataclass(frozen=True, slots=True)
class Envelope:
    """One event as it travels: topic, key, value and headers."""

    topic: str
    key: str
    value: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def event_id(self) -> str:
        """The CloudEvents id; empty where the header is missing."""
        return self.headers.get("ce_id", "")

    @property
    def event_type(self) -> str:
        """The CloudEvents type; empty where the header is missing."""
        return self.headers.get("ce_type", "")

    @property
    def attempt(self) -> int:
        """How many times the event was tried before this delivery; 0 where the header cannot be read."""
        written = self.headers.get(RETRY_ATTEMPT_HEADER, "0")
        return int(written) if written.isascii() and written.isdigit() else 0

    @property
    def not_before(self) -> float:
        """Unix time before which a retry is not due; 0 where it is due at once or the header cannot be read."""
        try:
            written = float(self.headers.get(RETRY_NOT_BEFORE_HEADER, "0"))
        except ValueError:
            return 0.0
        return written if math.isfinite(written) else 0.0

    @property
    def made_at(self) -> float | None:
        """Unix time at which the event was made; None where its ce_time cannot be read."""
        try:
            at = datetime.fromisoformat(self.headers.get("ce_time", ""))
        except ValueError:
            return None
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()

    @property
    def trace_id(self) -> str:
        """The W3C trace id; empty where the header cannot be read."""
        return trace_id_of(self.headers.get("traceparent", ""))

    def require_headers(self) -> None:
        """Raises InvalidEvent where a CloudEvents header is missing."""
        missing = [name for name in _REQUIRED if not self.headers.get(name)]
        if missing:
            raise InvalidEvent(f"event on {self.topic} lacks the header(s) {', '.join(missing)}")

    def with_headers(self, **headers: str) -> Envelope:
        """The same event with further headers."""
        return replace(self, headers={**self.headers, **headers})


def stable_hash(*parts: str | bytes) -> str:
    """Hex SHA-256 over length-prefixed parts: ("ab", "c") and ("a", "bc") differ."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    return digest.hexdigest()


def trace_id_of(traceparent: str) -> str:
    """The trace id of a W3C traceparent; empty where it cannot be read."""
    fields = traceparent.split("-")
    return fields[1] if len(fields) == 4 and len(fields[1]) == 32 else ""


def span_id_of(traceparent: str) -> str:
    """The span id of a W3C traceparent; empty where it cannot be read."""
    fields = traceparent.split("-")
    return fields[2] if len(fields) == 4 and len(fields[2]) == 16 else ""


def round_trace_id(message: Message) -> str:
    """The trace id of the round that a message belongs to; empty where it belongs to none."""
    position = getattr(message, "position", None)
    if position is None or not position.run_id:
        return ""
    return stable_hash("trace", position.run_id, str(position.round), position.arm)[:32]


def root_span_id(trace_id: str) -> str:
    """The id of the span under which everything of a round's trace lies."""
    return stable_hash("root", trace_id)[:16]


def traceparent_of(message: Message, *, cause: str = "", span_id: str = "") -> str:
    """The traceparent of a message: in its round's trace, under the span that made it.

    The first message of a round, which no span of the same trace made, lies under the round's root. cause is the
    traceparent of the event that led to it; a message without a round stays in its trace.
    """
    trace_id = round_trace_id(message)
    if not trace_id:
        return f"00-{trace_id_of(cause)}-{span_id}-01" if span_id and trace_id_of(cause) else new_traceparent(cause)
    if trace_id_of(cause) != trace_id:
        return f"00-{trace_id}-{root_span_id(trace_id)}-01"
    return f"00-{trace_id}-{span_id or secrets.token_hex(8)}-01"


def new_traceparent(parent: str = "") -> str:
    """A W3C traceparent: a child of the parent's trace, or a new sampled trace."""
    trace_id = trace_id_of(parent) or secrets.token_hex(16)
    return f"00-{trace_id}-{secrets.token_hex(8)}-01"


def envelope_for(
    message: Message,
    *,
    event_id: str,
    source: str,
    key: str,
    subject: str = "",
    traceparent: str = "",
    span_id: str = "",
    time: datetime | None = None,
) -> Envelope:
    """The envelope of a message on its contract's topic.

    traceparent is that of the event that led to it, span_id the span in which it was made; both may be empty.
    """
    contract = contract_of(type(message))
    headers = {
        "ce_specversion": "1.0",
        "ce_id": event_id,
        "ce_type": contract.event_type,
        "ce_source": f"/mendloop/{source}",
        "ce_subject": subject or key,
        "ce_time": (time or datetime.now(UTC)).isoformat(),
        "content-type": CONTENT_TYPE,
        "traceparent": traceparent_of(message, cause=traceparent, span_id=span_id),
    }
    return Envelope(contract.topic, key, message.SerializeToString(deterministic=True), headers)
