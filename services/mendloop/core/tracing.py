"""Traces: one of each round, ids by hash, spans by whoever handles an event. Knows W3C headers; knows no exporter.

Every event of a round carries the round's trace id, whatever came before it, so a trace needs no state and survives
retries, redeliveries and restarts. The span id in an event is that of the handler that made it; the first event of a
round carries the id of the round's root span.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from mendloop.core.errors import Permanent
from mendloop.core.events import Envelope, span_id_of, trace_id_of


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a trace a thread works; empty ids stand for nowhere."""

    trace_id: str = ""
    span_id: str = ""


_NOWHERE = Place()
_PLACE: ContextVar[Place] = ContextVar("mendloop_trace_place", default=_NOWHERE)


def current() -> Place:
    """Where this thread works, for logs and exemplars."""
    return _PLACE.get()


@contextmanager
def placed(place: Place) -> Iterator[None]:
    """Work at a place of a trace."""
    token = _PLACE.set(place)
    try:
        yield
    finally:
        _PLACE.reset(token)


class Handling(Protocol):
    """The span of one event in one service."""

    @property
    def span_id(self) -> str:
        """Its id; empty where nothing is traced."""

    def ended(self, result: str) -> None:
        """Say how it ended: ok, receipt, retry, dead or interrupted."""


class Tracing(Protocol):
    """Where spans go."""

    def handle(self, envelope: Envelope) -> Handling:
        """Begin the span of an event that is taken up."""

    def begin_round(self, first: Envelope, *, cause: Envelope | None) -> None:
        """Record the root span of the round whose first event this is; cause is what led to it in another round."""

    def close(self) -> None:
        """Send what is left."""


class _NoHandling:
    span_id = ""

    def ended(self, result: str) -> None:
        return


class NoTracing:
    """Traces nothing; costs nothing."""

    _handling = _NoHandling()

    def handle(self, envelope: Envelope) -> Handling:
        """Nothing."""
        return self._handling

    def begin_round(self, first: Envelope, *, cause: Envelope | None) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def open_tracing(service: str, *, endpoint: str) -> Tracing:
    """Spans to an OTLP/HTTP endpoint (http://HOST:4318); none where it is empty. Raises Permanent without the extra."""
    if not endpoint:
        return NoTracing()
    try:
        from mendloop.core.otlp import OtlpTracing  # an extra: most deployments trace nothing
    except ImportError as error:
        message = f"MENDLOOP_OTLP_ENDPOINT needs OpenTelemetry: uv pip install 'mendloop[otel]' ({error})"
        raise Permanent(message) from error
    return OtlpTracing(service, endpoint=endpoint)


def place_of(envelope: Envelope, handling: Handling) -> Place:
    """Where the handler of an event works."""
    traceparent = envelope.headers.get("traceparent", "")
    return Place(trace_id_of(traceparent), handling.span_id or span_id_of(traceparent))
