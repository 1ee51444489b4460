"""Metrics, health and structured logs of one service. METRICS is the only place where a metric is declared."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

READY_FOR_S = 15.0


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the metric table."""

    name: str
    kind: str
    unit: str
    labels: tuple[str, ...]
    meaning: str


_SERVICE = ("service",)

METRICS: tuple[Metric, ...] = (
    Metric("mendloop_up", "gauge", "boolean", _SERVICE, "1 while the consume loop runs."),
    Metric(
        "mendloop_events_handled",
        "counter",
        "events",
        ("service", "type", "result"),
        "Events by result: ok, receipt (published again, no work), retry, dead.",
    ),
    Metric("mendloop_handler_seconds", "histogram", "seconds", ("service", "type"), "Delivery to completion."),
    Metric("mendloop_items_scored", "counter", "items", _SERVICE, "Evaluation items scored."),
    Metric("mendloop_tokens", "counter", "tokens", ("service", "use"), "Tokens by use: train, generate, probe."),
    Metric("mendloop_training_step", "gauge", "steps", _SERVICE, "Optimizer steps of the training at work."),
    Metric("mendloop_training_loss", "gauge", "nats", ("service", "part"), "Its loss, by part: train, held_out."),
    Metric("mendloop_training_gradient_norm", "gauge", "norm", _SERVICE, "Its largest gradient norm lately."),
    Metric("mendloop_training_tokens_per_second", "gauge", "tokens/s", _SERVICE, "Its input tokens a second."),
    Metric("mendloop_training_mfu", "gauge", "share", _SERVICE, "Its share of the peak FLOPs; absent if not known."),
    Metric("mendloop_trainings_failed", "counter", "trainings", ("service", "cause"), "Diverged trainings, by cause."),
    Metric("mendloop_examples_kept", "counter", "examples", _SERVICE, "Training examples that passed the funnel."),
    Metric("mendloop_examples_dropped", "counter", "examples", ("service", "stage"), "Examples dropped, by stage."),
    Metric("mendloop_verdicts", "counter", "verdicts", ("service", "cause"), "Diagnoses by cause."),
    Metric("mendloop_gates", "counter", "gates", ("service", "gate", "result"), "Gate answers: passed, failed."),
    Metric("mendloop_webhooks", "gauge", "webhooks", ("service", "state"), "Hooks: delivering, failing, disabled."),
    Metric(
        "mendloop_webhook_attempts",
        "counter",
        "attempts",
        ("service", "result"),
        "Tries by result: delivered, retry, refused (given up), gone.",
    ),
    Metric("mendloop_webhook_delay_seconds", "histogram", "seconds", _SERVICE, "Event's time to its receipt."),
    Metric("mendloop_webhooks_disabled", "counter", "webhooks", ("service", "reason"), "Hooks that were disabled."),
    Metric("mendloop_runs_finished", "counter", "runs", ("service", "outcome"), "Runs by how they ended."),
)


class Telemetry:
    """The metrics of one process, its readiness, and the HTTP server that shows both."""

    def __init__(self, service: str) -> None:
        self._service = service
        self.registry = CollectorRegistry()
        kinds = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}
        self._metrics: dict[str, Counter | Gauge | Histogram] = {
            row.name: kinds[row.kind](row.name, row.meaning, row.labels, registry=self.registry) for row in METRICS
        }
        self._turned_at = -READY_FOR_S

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter of METRICS; KeyError for an undeclared one."""
        metric = self._metrics[name]
        assert isinstance(metric, Counter), f"{name} is no counter"
        metric.labels(service=self._service, **labels).inc(amount)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Observe a value in a histogram of METRICS."""
        metric = self._metrics[name]
        assert isinstance(metric, Histogram), f"{name} is no histogram"
        metric.labels(service=self._service, **labels).observe(value)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge of METRICS."""
        metric = self._metrics[name]
        assert isinstance(metric, Gauge), f"{name} is no gauge"
        metric.labels(service=self._service, **labels).set(value)

    def alive(self) -> None:
        """The consume loop turned, or waits for a handler at work."""
        self._turned_at = time.monotonic()
        self.set("mendloop_up", 1)

    def is_ready(self) -> bool:
        """Whether the consume loop turned lately; a loop that hangs or died is not ready."""
        return time.monotonic() - self._turned_at < READY_FOR_S

    def handled(self, event_type: str, *, result: str, seconds: float) -> None:
        """Count one event."""
        self.add("mendloop_events_handled", type=event_type, result=result)
        self.observe("mendloop_handler_seconds", seconds, type=event_type)

    def serve(self, *, host: str, port: int) -> ThreadingHTTPServer:
        """Start /metrics, /healthz and /readyz in a thread; port 0 takes a free one."""
        telemetry = self

        class Pages(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._answer(200, generate_latest(telemetry.registry), CONTENT_TYPE_LATEST)
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


_PLAIN = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {"message", "taskName"}


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
