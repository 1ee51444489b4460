"""Metrics, health and structured logs of one service. METRICS is the only place where a metric is declared."""

from __future__ import annotations

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


METRICS: tuple[Metric, ...] = (
    Metric(
        "mendloop_events_handled",
        "counter",
        "events",
        ("service", "type", "result"),
        "Events by result: ok, retry, dead.",
    ),
    Metric(
        "mendloop_handler_seconds", "histogram", "seconds", ("service", "type"), "Time from delivery to completion."
    ),
    Metric("mendloop_up", "gauge", "boolean", ("service",), "1 while the consume loop runs."),
)


class Telemetry:
    """The metrics of one process, its readiness, and the HTTP server that shows both."""

    def __init__(self, service: str) -> None:
        self._service = service
        self.registry = CollectorRegistry()
        self._handled = Counter(
            "mendloop_events_handled", METRICS[0].meaning, METRICS[0].labels, registry=self.registry
        )
        self._seconds = Histogram(
            "mendloop_handler_seconds", METRICS[1].meaning, METRICS[1].labels, registry=self.registry
        )
        self._up = Gauge("mendloop_up", METRICS[2].meaning, METRICS[2].labels, registry=self.registry)
        self._ready_at = 0.0

    def ready(self) -> None:
        """The consume loop turned once."""
        self._ready_at = time.monotonic()
        self._up.labels(self._service).set(1)

    def is_ready(self) -> bool:
        """Whether the consume loop turned lately or a handler is at work."""
        return self._ready_at > 0

    def handled(self, event_type: str, *, result: str, seconds: float) -> None:
        """Count one event."""
        self._handled.labels(self._service, event_type, result).inc()
        self._seconds.labels(self._service, event_type).observe(seconds)

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
                    self._answer(200 if ready else 503, b"ready\n" if ready else b"starting\n")
                else:
                    self._answer(404, b"try /metrics, /healthz or /readyz\n")

            def _answer(self, status: int, body: bytes, content_type: str = "text/plain") -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
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
