"""Metrics, health and structured logs of one process. Which metrics there are, says mendloop.core.metrics."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from mendloop.core.contracts import SERVICES
from mendloop.core.metric import OTHER, Metric
from mendloop.core.metrics import METRICS, RESULTS
from mendloop.core.tracing import current

READY_FOR_S = 15.0
Series = Counter | Gauge | Histogram


class Telemetry:
    """The metrics of one process, its readiness, and the HTTP server that shows both.

    A service shows the rows of METRICS that are its own; a name that is no service (a tool, a test) shows all.
    """

    def __init__(self, service: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped there; ends a second series a counter
        self._service = service
        self.registry = CollectorRegistry()
        self._rows = {row.name: row for row in METRICS if service not in SERVICES or service in row.services}
        self._metrics: dict[str, Series] = {row.name: _opened(row, self.registry) for row in self._rows.values()}
        self._known: dict[tuple[str, str], set[str]] = {}
        self._lock = threading.Lock()
        self._turned_at = -READY_FOR_S
        for row in self._rows.values():
            self._show_zeros(row)

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter of METRICS; KeyError for one that is undeclared or another service's."""
        metric = self._metrics[name]
        assert isinstance(metric, Counter), f"{name} is no counter"
        metric.labels(service=self._service, **self._bounded(name, labels)).inc(amount)

    def observe(self, name: str, value: float, *, trace_id: str = "", **labels: str) -> None:
        """Observe a value in a histogram of METRICS; a trace id becomes the exemplar of its bucket."""
        metric = self._metrics[name]
        assert isinstance(metric, Histogram), f"{name} is no histogram"
        exemplar = {"trace_id": trace_id} if trace_id else None
        metric.labels(service=self._service, **self._bounded(name, labels)).observe(value, exemplar)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge of METRICS."""
        self._gauge(name).labels(service=self._service, **self._bounded(name, labels)).set(value)

    def set_all(self, name: str, values: Mapping[tuple[str, ...], float]) -> None:
        """Let a gauge show these series, by the values of its labels in their order, and no other one.

        What was shown before and is not among them is removed, so that a label's bound counts what there is now.
        """
        row, gauge = self._rows[name], self._gauge(name)
        with self._lock:
            gauge.clear()
            for label in row.labels:
                self._known.pop((name, label.name), None)
        for key, value in values.items():
            self.set(name, value, **dict(zip((label.name for label in row.labels), key, strict=True)))

    def watch(self, name: str, read: Callable[[], float], **labels: str) -> None:
        """Let a gauge show what a function returns at each scrape."""
        self._gauge(name).labels(service=self._service, **self._bounded(name, labels)).set_function(read)

    def expect(self, event_types: Iterable[str]) -> None:
        """Show zeros for these event types: a rate sees the first event only where the series stood at 0 before."""
        for event_type, result in product(event_types, RESULTS):
            self.add("mendloop_events_handled", 0, type=event_type, result=result)

    def alive(self) -> None:
        """The consume loop turned, or waits for a handler at work."""
        self._turned_at = time.monotonic()
        self.set("mendloop_up", 1)

    def bus_answered(self) -> None:
        """A contact with the bus worked."""
        self.set("mendloop_bus_up", 1)

    def bus_failed(self) -> None:
        """A contact with the bus failed; it is tried again."""
        self.set("mendloop_bus_up", 0)
        self.add("mendloop_bus_errors")

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """An event is in work: its lease is held and its time runs."""
        started = time.monotonic()
        self.set("mendloop_lease_held", 1)
        self.watch("mendloop_work_seconds", lambda: time.monotonic() - started)
        try:
            yield
        finally:
            self.set("mendloop_lease_held", 0)
            self.watch("mendloop_work_seconds", lambda: 0.0)

    def is_ready(self) -> bool:
        """Whether the consume loop turned lately; a loop that hangs or died is not ready."""
        return time.monotonic() - self._turned_at < READY_FOR_S

    def handled(
        self, event_type: str, *, result: str, seconds: float, latency_s: float | None = None, trace_id: str = ""
    ) -> None:
        """Count one event; latency_s is the time since it was made, None where its header does not say."""
        self.add("mendloop_events_handled", type=event_type, result=result)
        self.observe("mendloop_handler_seconds", seconds, trace_id=trace_id, type=event_type)
        if latency_s is not None:
            self.observe("mendloop_event_latency_seconds", latency_s, trace_id=trace_id, type=event_type)

    def page(self, accept: str | None) -> tuple[bytes, str]:
        """The metrics in the format that a scraper asks for, with its content type."""
        encode, content_type = choose_encoder(accept or "")
        return encode(self.registry), content_type

    def _gauge(self, name: str) -> Gauge:
        metric = self._metrics[name]
        assert isinstance(metric, Gauge), f"{name} is no gauge"
        return metric

    def _bounded(self, name: str, labels: Mapping[str, str]) -> dict[str, str]:
        """The labels with `other` for values beyond a label's bound."""
        kept = dict(labels)
        for label in self._rows[name].labels:
            value = kept[label.name]
            if label.values:
                is_known = value in label.values
            else:
                with self._lock:
                    known = self._known.setdefault((name, label.name), set())
                    if len(known) < label.most:
                        known.add(value)
                    is_known = value in known
            if not is_known and value != OTHER:
                kept[label.name] = OTHER
                self.add("mendloop_labels_folded", metric=name)
        return kept

    def _show_zeros(self, row: Metric) -> None:
        """Counters and histograms of closed labels stand at 0 from the start; event types come with expect."""
        if row.kind == "gauge" or not all(label.values for label in row.labels):
            return
        names = [label.name for label in row.labels]
        if "type" in names:
            return
        for values in product(*(label.values for label in row.labels)):
            self._metrics[row.name].labels(service=self._service, **dict(zip(names, values, strict=True)))

    def serve(self, *, host: str, port: int) -> ThreadingHTTPServer:
        """Start /metrics, /healthz and /readyz in a thread; port 0 takes a free one."""
        telemetry = self

        class Pages(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._answer(200, *telemetry.page(self.headers.get("Accept")))
                elif self.path == "/healthz":
                    self._answer(200, b"ok\n")
                elif self.path == "/readyz":
                    ready = telemetry.is_ready()
                    self._answer(200 if ready else 503, b"ready\n" if ready else b"not ready\n")
                else:
                    self._answer(404, b"try /metrics, /healthz or /readyz\n")

            def _answer(self, status: int, body: bytes, content_type: str = "text/plain") -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(ConnectionError):  # who asked did not wait for the answer
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return

        server = ThreadingHTTPServer((host, port), Pages)
        threading.Thread(target=server.serve_forever, name="telemetry", daemon=True).start()
        return server


def _opened(row: Metric, registry: CollectorRegistry) -> Series:
    if row.kind == "histogram":
        return Histogram(row.name, row.meaning, row.label_names, registry=registry, buckets=row.buckets)
    kind = Counter if row.kind == "counter" else Gauge
    return kind(row.name, row.meaning, row.label_names, registry=registry)


_PLAIN = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {"message", "taskName"}


def _trace() -> dict[str, str]:
    """The ids of the trace in which this thread works, where it works in one."""
    place = current()
    return {"trace_id": place.trace_id, "span_id": place.span_id} if place.trace_id else {}


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, service, message and the extra fields."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        row = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "service": self._service,
            "message": record.getMessage(),
            **_trace(),
            **{name: value for name, value in record.__dict__.items() if name not in _PLAIN},
        }
        if record.exc_info:
            row["exception"] = self.formatException(record.exc_info)
        return json.dumps(row, default=str)


def log_to_stderr(service: str, *, level: str = "INFO") -> None:
    """Send structured logs of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(service))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # kafka-python tells of each connection and partition: 6,000 lines in five minutes of a gateway.
    logging.getLogger("kafka").setLevel(logging.WARNING if logging.root.level > logging.DEBUG else logging.INFO)
