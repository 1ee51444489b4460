"""A dead letter given back: the original event on the retry topic of the service that refused it. Knows no service."""

from __future__ import annotations

from mendloop.core.contracts import retry_topic
from mendloop.core.events import RETRY_ATTEMPT_HEADER, RETRY_NOT_BEFORE_HEADER, RETRY_TOPIC_HEADER, Envelope
from mendloop.v1 import operations_pb2


def given_back(message: operations_pb2.DeadLetter) -> Envelope:
    """The original event for the service that refused it, and for no other, as if it were new."""
    headers = {header.name: header.value for header in message.headers}
    headers |= {RETRY_TOPIC_HEADER: message.topic, RETRY_ATTEMPT_HEADER: "0", RETRY_NOT_BEFORE_HEADER: "0"}
    return Envelope(retry_topic(message.handler), message.key, message.value, headers)
