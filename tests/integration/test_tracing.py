"""One trace a round through all services: real workers on a real bus, spans over OTLP/HTTP to a receiver."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from run_events import JUMP, batch, diagnosed, evaluated, failed, finished, planned, promoted, ready, requested
from waiting import wait_until

pytest.importorskip("opentelemetry.sdk", reason="needs the extra otel: uv pip install 'mendloop[otel]'")
from otlp_receiver import OtlpReceiver, Seen

from mendloop.artifacts.store import ArtifactStore
from mendloop.bus.local import LocalBus
from mendloop.bus.receipts import StoredReceipts
from mendloop.bus.runtime import Emit, Event, Worker
from mendloop.core.contracts import (
    CONTROLLER,
    DATA_GENERATOR,
    DIAGNOSTICIAN,
    EVALUATOR,
    TRAINER,
    all_topics,
    contract_of,
)
from mendloop.core.events import root_span_id, round_trace_id
from mendloop.core.telemetry import JsonLines, Telemetry
from mendloop.core.tracing import open_tracing
from mendloop.runs.stream import LogReader
from mendloop.v1 import checkpoint_pb2, diagnosis_pb2, evaluation_pb2, intervention_pb2, loop_pb2

pytestmark = pytest.mark.integration
Table = dict[type[Message], Callable[[Event], list[Emit]]]


def said(*messages: Message) -> Callable[[Event], list[Emit]]:
    """A handler that answers always the same."""
    return lambda event: [Emit(message, key="r1") for message in messages]


def evaluate(event: Event) -> list[Emit]:
    """Weak in round 0, good in round 1."""
    logging.getLogger("mendloop.test").info("measuring")
    message: Any = event.message
    if message.position.round:
        return said(evaluated(round=1, letter="c", correct=54, weak=0))(event)
    return said(evaluated(), failed("r1", JUMP))(event)


def decide(event: Event) -> list[Emit]:
    """Promotes and finishes after round 1."""
    message: Any = event.message
    return said(promoted(), finished())(event) if message.position.round else []


def tables() -> dict[str, Table]:
    """Every service as handlers that say what theirs do."""
    return {
        TRAINER: {
            loop_pb2.LoopRequested: said(ready()),
            intervention_pb2.DataBatchReady: said(ready(round=1, letter="c")),
        },
        EVALUATOR: {checkpoint_pb2.CheckpointReady: evaluate},
        DIAGNOSTICIAN: {evaluation_pb2.EvalFailed: said(diagnosed("r1", JUMP))},
        DATA_GENERATOR: {intervention_pb2.InterventionPlanned: said(batch())},
        CONTROLLER: {
            loop_pb2.LoopRequested: said(),
            diagnosis_pb2.DiagnosisReady: said(planned()),
            evaluation_pb2.EvalCompleted: decide,
        },
    }


@pytest.fixture
def spans_and_logs(tmp_path: Path) -> Iterator[tuple[list[Seen], list[dict[str, Any]]]]:
    """What a whole run leaves: its spans, and the lines that the evaluator logged."""
    bus = LocalBus(tmp_path / "bus.db")
    bus.ensure_topics(all_topics())
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(JsonLines(EVALUATOR))
    logger = logging.getLogger("mendloop.test")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    with OtlpReceiver() as receiver:
        tracings = {service: open_tracing(service, endpoint=receiver.address) for service in tables()}
        workers = [
            Worker(
                service=service,
                bus=LocalBus(tmp_path / "bus.db"),
                handlers=table,
                receipts=StoredReceipts(ArtifactStore(tmp_path / "artifacts")),
                telemetry=Telemetry(service),
                member=service,
                tracing=tracings[service],
            )
            for service, table in tables().items()
        ]
        threads = [threading.Thread(target=worker.run, daemon=True) for worker in workers]
        for thread in threads:
            thread.start()
        bus.publish([requested()])
        reader = LogReader(bus)
        wait_until(
            lambda: any(isinstance(event.message, loop_pb2.LoopFinished) for event in reader.next()[0]), deadline_s=60
        )
        wait_until(lambda: all(bus.lag(service, _topics(table)) == 0 for service, table in tables().items()))
        for worker in workers:
            worker.stop()
        for thread in threads:
            thread.join(timeout=20)
        for tracing in tracings.values():
            tracing.close()
        logger.removeHandler(handler)
        yield receiver.spans, [json.loads(line) for line in lines.getvalue().splitlines()]


def _topics(table: Table) -> list[str]:
    return [contract_of(message).topic for message in table]


def test_each_round_is_one_trace_in_which_every_span_has_the_span_before_it_as_parent(
    spans_and_logs: tuple[list[Seen], list[dict[str, Any]]],
) -> None:
    spans, logs = spans_and_logs
    first, second = round_trace_id(requested_message()), round_trace_id(planned())
    assert {span.trace_id for span in spans} == {first, second}

    assert _chain(spans, first) == {
        ("controller", "round begins: LoopRequested"): "",
        ("trainer", "handle LoopRequested"): "round begins: LoopRequested",
        ("controller", "handle LoopRequested"): "round begins: LoopRequested",
        ("evaluator", "handle CheckpointReady"): "handle LoopRequested",
        ("controller", "handle EvalCompleted"): "handle CheckpointReady",
        ("diagnostician", "handle EvalFailed"): "handle CheckpointReady",
        ("controller", "handle DiagnosisReady"): "handle EvalFailed",
    }
    assert _chain(spans, second) == {
        ("controller", "round begins: InterventionPlanned"): "",
        ("data-generator", "handle InterventionPlanned"): "round begins: InterventionPlanned",
        ("trainer", "handle DataBatchReady"): "handle InterventionPlanned",
        ("evaluator", "handle CheckpointReady"): "handle DataBatchReady",
        ("controller", "handle EvalCompleted"): "handle CheckpointReady",
    }
    root = next(span for span in spans if span.span_id == root_span_id(second))
    assert root.links == (first,)
    assert {span.attributes["mendloop.run_id"] for span in spans} <= {"r1", ""}

    measuring = [row for row in logs if row["message"] == "measuring"]
    spans_by_id = {span.span_id: span for span in spans}
    assert {row["trace_id"] for row in measuring} == {first, second}
    assert {spans_by_id[row["span_id"]].name for row in measuring} == {"handle CheckpointReady"}


def requested_message() -> loop_pb2.LoopRequested:
    """The request that began the run."""
    return loop_pb2.LoopRequested.FromString(requested().value)


def _chain(spans: list[Seen], trace_id: str) -> dict[tuple[str, str], str]:
    """Each span of a trace, by service and name, with the name of its parent."""
    own = {span.span_id: span for span in spans if span.trace_id == trace_id}
    return {
        (span.service.removeprefix("mendloop-"), span.name): own[span.parent_id].name if span.parent_id else ""
        for span in own.values()
    }
