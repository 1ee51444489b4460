"""Spans over OTLP/HTTP with OpenTelemetry's SDK (extra `otel`). Knows the SDK; knows no bus."""

from __future__ import annotations

import threading
import time

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from mendloop.core.contracts import TYPE_PREFIX
from mendloop.core.events import Envelope, root_span_id, span_id_of, trace_id_of
from mendloop.core.tracing import Handling

SEND_AFTER_MS = 1000
EXPORT_TIMEOUT_S = 5


class _RoundIds(IdGenerator):
    """Random ids, but for a root span those of its round."""

    def __init__(self) -> None:
        self._random, self._given = RandomIdGenerator(), threading.local()

    def give(self, trace_id: int, span_id: int) -> None:
        """The ids of the next span of this thread."""
        self._given.ids = (trace_id, span_id)

    def generate_trace_id(self) -> int:
        ids: tuple[int, int] | None = getattr(self._given, "ids", None)
        return ids[0] if ids else self._random.generate_trace_id()

    def generate_span_id(self) -> int:
        ids: tuple[int, int] | None = getattr(self._given, "ids", None)
        self._given.ids = None
        return ids[1] if ids else self._random.generate_span_id()


class _OtlpHandling:
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def span_id(self) -> str:
        return f"{self._span.get_span_context().span_id:016x}"

    def ended(self, result: str) -> None:
        self._span.set_attribute("mendloop.result", result)
        if result in ("retry", "dead"):
            self._span.set_status(Status(StatusCode.ERROR, result))
        self._span.end()


class OtlpTracing:
    """Spans of one service, sent in batches by a thread; a receiver that is away costs spans, never work."""

    def __init__(self, service: str, *, endpoint: str) -> None:
        self._ids = _RoundIds()
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": f"mendloop-{service}"}), id_generator=self._ids
        )
        exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=SEND_AFTER_MS))
        self._tracer = self._provider.get_tracer("mendloop")

    def handle(self, envelope: Envelope) -> Handling:
        """Begin a span under the one that made the event."""
        parent = _context(envelope)
        under = trace.set_span_in_context(NonRecordingSpan(parent)) if parent else None
        name = f"handle {envelope.event_type.removeprefix(TYPE_PREFIX)}"
        return _OtlpHandling(
            self._tracer.start_span(name, context=under, kind=SpanKind.CONSUMER, attributes=_facts(envelope))
        )

    def begin_round(self, first: Envelope, *, cause: Envelope | None) -> None:
        """A root span without length, linked to what led to the round."""
        trace_id = trace_id_of(first.headers.get("traceparent", ""))
        if not trace_id:
            return
        made_ns = int((first.made_at or time.time()) * 1e9)
        before = _context(cause) if cause else None
        self._ids.give(int(trace_id, 16), int(root_span_id(trace_id), 16))
        span = self._tracer.start_span(
            f"round begins: {first.event_type.removeprefix(TYPE_PREFIX)}",
            context=trace.set_span_in_context(trace.INVALID_SPAN),
            kind=SpanKind.PRODUCER,
            attributes=_facts(first),
            links=[Link(before)] if before else [],
            start_time=made_ns,
        )
        span.end(end_time=made_ns)

    def close(self) -> None:
        """Send what is left, for at most EXPORT_TIMEOUT_S."""
        self._provider.force_flush(EXPORT_TIMEOUT_S * 1000)
        self._provider.shutdown()


def _context(envelope: Envelope) -> SpanContext | None:
    traceparent = envelope.headers.get("traceparent", "")
    trace_id, span_id = trace_id_of(traceparent), span_id_of(traceparent)
    if not trace_id or not span_id:
        return None
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _facts(envelope: Envelope) -> dict[str, str | int]:
    return {
        "messaging.system": "mendloop",
        "messaging.destination.name": envelope.topic,
        "messaging.message.id": envelope.event_id,
        "mendloop.run_id": envelope.headers.get("ce_subject", ""),
        "mendloop.attempt": envelope.attempt,
    }
