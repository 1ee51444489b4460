"""How long the gateway's server takes for each page of a large deployment.

Fills a log with many runs, one of them with many slices and a large table of outcomes, lets the gateway write it down,
and asks a real server over loopback, one request at a time. `first` is the first request of a kind after the start.
"""

from __future__ import annotations

import io
import json
import math
import os
import platform
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
import uvicorn
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from gateways import Parts, gateway
from run_events import batch, data_run, diagnosed, evaluated, finished, planned, promoted, ready, requested, sent

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.artifacts.tables import MEDIA_TYPE, schema_of
from mendloop.core.events import Envelope
from mendloop.core.records import Outcome
from mendloop.core.wire import artifact_ref, proportion, slice_message
from mendloop.v1 import evaluation_pb2

GOAL_S = 1.0
RUN = "large"


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one kind of request."""

    page: str
    first_s: float
    p50_s: float
    p95_s: float
    cpu_s: float
    """Median of the process's CPU time, the client's small share included: what a quiet machine would take."""
    byte_count: int


def main(
    run_count: Annotated[int, typer.Option("--runs", help="Runs in the log.")] = 1_000,
    slice_count: Annotated[int, typer.Option("--slices", help="Slices of the large run; a fifth of them weak.")] = 500,
    outcome_count: Annotated[int, typer.Option("--outcomes", help="Outcomes of each of its two rounds.")] = 100_000,
    repeats: Annotated[int, typer.Option(help="Requests of each kind after the first.")] = 20,
    database: Annotated[str, typer.Option(help="postgresql+psycopg://...; empty: a SQLite file.")] = "",
    out: Annotated[Path | None, typer.Option(help="File for the figures as JSON.")] = None,
) -> None:
    """Fill, serve, ask, print."""
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        parts = gateway(Path(folder), url=database)
        event_count = _fill(parts, run_count=run_count, slice_count=slice_count, outcome_count=outcome_count)
        started = time.monotonic()
        with _serving(parts) as url, httpx.Client(base_url=url, timeout=60) as client:
            written_s = time.monotonic() - started
            timings = [_timed(name, ask, client, repeats) for name, ask in _pages(client, outcome_count).items()]
        again = gateway(Path(folder), url=database)
        started = time.monotonic()
        with _serving(again):
            restart_s = time.monotonic() - started
    _print(console, timings)
    console.print(
        f"{event_count} events written down in {written_s:.1f} s ({event_count / written_s:.0f}/s); a restart is"
        f" ready after {restart_s:.2f} s; goal: every page within {GOAL_S} s"
    )
    if out is not None:
        facts = {
            "machine": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load": os.getloadavg(),
        }
        figures = {"written_s": written_s, "events": event_count, "restart_s": restart_s}
        out.write_text(json.dumps({**facts, **figures, "pages": [asdict(one) for one in timings]}, indent=1) + "\n")
    if max(one.p95_s for one in timings) > GOAL_S:
        raise typer.Exit(1)


def _fill(parts: Parts, *, run_count: int, slice_count: int, outcome_count: int) -> int:
    events: list[Envelope] = []
    for n in range(run_count - 1):
        events += data_run(f"run-{n:04}")
    tables = [_outcomes(parts.store, outcome_count, seed=seed) for seed in (0, 1)]
    events += _large_run(slice_count, tables=tables)
    for start in range(0, len(events), 1000):
        parts.bus.publish(events[start : start + 1000])
    return len(events)


def _large_run(slice_count: int, *, tables: list[Artifact]) -> Iterator[Envelope]:
    slices = [slice_message([("topic", f"t{n}")]) for n in range(slice_count)]
    weak = slices[: slice_count // 5]
    base, candidate = evaluated(RUN, weak=len(weak)), evaluated(RUN, round=1, letter="c", correct=55, weak=0)
    for message, table, correct in ((base, tables[0], 90), (candidate, tables[1], 160)):
        message.outcomes.CopyFrom(artifact_ref(table))
        message.slices.extend(evaluation_pb2.SliceScore(slice=one, accuracy=proportion(correct, 200)) for one in slices)
    failures = [
        evaluation_pb2.EvalFailed(
            position=base.position,
            evaluation_id="e0",
            slice=one,
            accuracy=proportion(60, 130),
            confirmation=proportion(30, 70),
            threshold=0.8,
        )
        for one in weak
    ]
    messages = [ready(RUN), base, *failures, *(diagnosed(RUN, one) for one in weak), planned(RUN), batch(RUN)]
    messages += [ready(RUN, round=1, letter="c"), candidate, promoted(RUN), finished(RUN)]
    yield requested(RUN, second=10_000)
    for n, message in enumerate(messages):
        yield sent(message, second=10_001 + n, event_id=f"{RUN}/{n}")


def _outcomes(store: ArtifactStore, count: int, *, seed: int) -> Artifact:
    """Made by column: 100,000 records one by one would take longer than everything that is measured."""
    rng = np.random.default_rng(seed)
    words = np.array([" ".join(f"word{w}" for w in rng.integers(0, 5000, 25)) for _ in range(2000)])
    right = rng.random(count) < 0.6
    axes = [[("topic", [f"t{n % 500}"]), ("length", [f"l{n % 7}"])] for n in range(count)]
    known: dict[str, Any] = {
        "item_id": [f"item-{n}" for n in range(count)],
        "split": np.where(np.arange(count) % 3 == 0, "confirm", "search"),
        "prompt": [f"question {n}: {text}" for n, text in enumerate(words[rng.integers(0, 2000, count)])],
        "output": words[rng.integers(0, 2000, count)],
        "target": words[rng.integers(0, 2000, count)],
        "score": right.astype(float),
        "stop_reason": np.where(rng.random(count) < 0.1, "length", "eos"),
        "extraction": np.where(right, "exact", "none"),
        "axes": axes,
    }
    schema = schema_of(Outcome)
    columns = [pa.array(known.get(field.name, _zeros(field.type, count)), type=field.type) for field in schema]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), buffer, compression="zstd")
    return store.put(buffer.getvalue(), media_type=MEDIA_TYPE)


def _zeros(kind: pa.DataType, count: int) -> list[Any]:
    zero: Any = "" if pa.types.is_string(kind) else [] if pa.types.is_list(kind) else 0
    return [zero] * count


Ask = Callable[[int], tuple[str, dict[str, Any]]]


def _pages(client: httpx.Client, outcome_count: int) -> dict[str, Ask]:
    """Each kind of page: its path and its query for the n-th request."""
    runs = client.get("/v1/runs", params={"limit": 50}).json()
    of = f"/v1/runs/{RUN}"
    slices = client.get(f"{of}/slices", params={"limit": 200}).json()
    weak = [one["slice_id"] for one in slices["slices"] if one["is_weak"]]
    deep = _deep_cursor(client, of)
    return {
        "runs": lambda n: ("/v1/runs", {"limit": 50}),
        "runs, next page": lambda n: ("/v1/runs", {"limit": 50, "cursor": runs["next_cursor"]}),
        "runs, searched": lambda n: ("/v1/runs", {"q": f"run-0{n % 10}"}),
        "one run": lambda n: (of, {}),
        "slices": lambda n: (f"{of}/slices", {"limit": 100}),
        "slices, next page": lambda n: (f"{of}/slices", {"limit": 100, "cursor": slices["next_cursor"]}),
        "slices, searched": lambda n: (f"{of}/slices", {"q": f"t{n}", "weak": True}),
        "diagnosis": lambda n: (f"{of}/diagnoses/0/{weak[n % len(weak)]}", {}),
        "outcomes": lambda n: (f"{of}/outcomes", {"limit": 50}),
        "outcomes, last page": lambda n: (f"{of}/outcomes", {"limit": 50, "cursor": deep}),
        "outcomes, broke": lambda n: (f"{of}/outcomes", {"status": "broke", "limit": 50}),
        "outcomes of a slice": lambda n: (f"{of}/outcomes", {"slice": weak[n % len(weak)], "status": "wrong"}),
        "outcomes, new words": lambda n: (f"{of}/outcomes", {"q": f"question {outcome_count - 1 - n}:"}),
        "lineage": lambda n: (f"{of}/lineage", {}),
        "dead letters": lambda n: ("/v1/dead-letters", {}),
    }


def _deep_cursor(client: httpx.Client, of: str) -> str:
    """A cursor deep in the table."""
    cursor, last = "", ""
    while True:
        page = client.get(f"{of}/outcomes", params={"q": "question 999", "limit": 200, "cursor": cursor}).json()
        cursor, last = page["next_cursor"], cursor
        if not cursor:
            return last


def _timed(name: str, ask: Ask, client: httpx.Client, repeats: int) -> Timing:
    seconds, busy, size = [], [], 0
    for n in range(repeats + 1):
        path, query = ask(n)
        started, used = time.perf_counter(), time.process_time()
        answer = client.get(path, params=query)
        seconds.append(time.perf_counter() - started)
        busy.append(time.process_time() - used)
        answer.raise_for_status()
        size = len(answer.content)
    rest = sorted(seconds[1:])
    p95_s = rest[max(0, math.ceil(0.95 * len(rest)) - 1)]
    return Timing(name, seconds[0], statistics.median(rest), p95_s, statistics.median(busy[1:]), size)


@contextmanager
def _serving(parts: Parts) -> Iterator[str]:
    """A real server over the parts, once it has read the log."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    server = uvicorn.Server(uvicorn.Config(parts.app, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        if not parts.feed.wait_current(timeout_s=600):
            raise TimeoutError("the gateway did not read its log within 600 s")
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        listener.close()


def _print(console: Console, timings: list[Timing]) -> None:
    table = Table("page", "first ms", "p50 ms", "p95 ms", "CPU ms", "KB")
    for one in timings:
        milliseconds = (f"{value * 1000:.0f}" for value in (one.first_s, one.p50_s, one.p95_s, one.cpu_s))
        table.add_row(one.page, *milliseconds, f"{one.byte_count / 1024:.0f}")
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
