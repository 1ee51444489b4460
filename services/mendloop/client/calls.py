"""The requests of a gateway and how their answers are read. Does no I/O."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from mendloop.client.results import Run, RunPage, RunSummary

T = TypeVar("T")
JSON, YAML = "application/json", "application/yaml"


@dataclass(frozen=True, slots=True)
class Request:
    """A request, relative to the gateway."""

    method: str
    path: str
    params: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request that may be sent again without doing anything twice, and how its answer's body is read."""

    request: Request
    read: Callable[[bytes], T]


def start_run(recipe: Path | str | Mapping[str, Any], *, key: str, requested_by: str) -> Call[RunSummary]:
    """Ask for a run; a recipe is the path of a YAML file, or its values. Without a key a new one makes retries safe."""
    if isinstance(recipe, Mapping):
        content, kind = _json(recipe), JSON
    else:
        content, kind = Path(recipe).read_bytes(), YAML
    headers = {"content-type": kind, "idempotency-key": key or str(uuid.uuid4())}
    params = [("requested_by", requested_by)] if requested_by else []
    return Call(Request("POST", "/v1/runs", params, headers, content), _read_summary)


def list_runs(*, limit: int, cursor: str, state: str) -> Call[RunPage]:
    """A page of runs, newest first."""
    params = [("limit", str(limit)), *((k, v) for k, v in (("cursor", cursor), ("state", state)) if v)]
    return Call(Request("GET", "/v1/runs", params), _read_page)


def get_run(run_id: str) -> Call[Run]:
    """One run."""
    return Call(Request("GET", _run(run_id)), lambda body: Run.of(json.loads(body)))


def get_report(run_id: str) -> Call[bytes]:
    """The run's page as HTML."""
    return Call(Request("GET", f"{_run(run_id)}/report", headers={"accept": "text/html"}), bytes)


def me() -> Call[dict[str, Any]]:
    """Whom the token belongs to."""
    return Call(Request("GET", "/v1/me"), _read_document)


def steer(run_id: str, verb: str, *, reason: str, by: str) -> Call[RunSummary]:
    """cancel, pause, resume or rollback; asking again changes nothing."""
    return _post(f"{_run(run_id)}/{verb}", {"reason": reason, "by": by})


def answer(run_id: str, *, plan_id: str, approved: bool, reason: str, by: str, review: bool) -> Call[RunSummary]:
    """Approve or refuse a plan, or its batch; the same answer again changes nothing."""
    said = {"plan_id": plan_id, "approved": approved, "reason": reason, "by": by, "review": review}
    return _post(f"{_run(run_id)}/approval", said)


def events(
    *, runs: Sequence[str], types: Sequence[str], causes: Sequence[str], slices: Sequence[str], after: str
) -> Request:
    """The event stream; after is a cursor, "now" or "beginning"."""
    named = (("run", runs), ("type", types), ("cause", causes), ("slice", slices))
    params = [(name, value) for name, values in named for value in values]
    headers = {"accept": "text/event-stream"}
    if after in ("now", "beginning"):
        return Request("GET", "/v1/events", [*params, ("from", after)], headers)
    return Request("GET", "/v1/events", params, {**headers, "last-event-id": after})


def _run(run_id: str) -> str:
    if not run_id or run_id in (".", ".."):
        raise ValueError(f"run_id is {run_id!r}; it must name a run")
    return f"/v1/runs/{quote(run_id, safe='')}"


def _post(path: str, values: Mapping[str, Any]) -> Call[RunSummary]:
    return Call(Request("POST", path, headers={"content-type": JSON}, content=_json(values)), _read_summary)


def _json(values: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(values)).encode()


def _read_document(body: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(body)
    return document


def _read_summary(body: bytes) -> RunSummary:
    return RunSummary.of(json.loads(body))


def _read_page(body: bytes) -> RunPage:
    document = json.loads(body)
    return RunPage(tuple(map(RunSummary.of, document["runs"])), document["next_cursor"])
