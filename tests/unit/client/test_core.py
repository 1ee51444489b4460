"""The client's core without a network: tries and waits, errors of problems, and events out of any cut of bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendloop.client import BadRequest, Conflict, Invalid, NotFound, NotReady, ServerError, Unauthorized, Unreachable
from mendloop.client.calls import Request, events, get_run, list_runs, start_run
from mendloop.client.connection import Connection
from mendloop.client.errors import error_of
from mendloop.client.results import Event
from mendloop.client.stream import Place
from mendloop.client.talking import TRIES, Answer, Send, Talk, asked

T = TypeVar("T")
EMPTY_PAGE = Answer(200, {}, b'{"runs": [], "next_cursor": ""}')


def _driven(talk: Talk[T], answers: list[Answer | Exception]) -> tuple[T, list[float], list[Request]]:
    """The result of a talk, the waits it asked for, and the requests it sent."""
    waits: list[float] = []
    sent: list[Request] = []
    step = next(talk)
    try:
        while True:
            if not isinstance(step, Send):
                waits.append(step.seconds)
                step = talk.send(None)
                continue
            sent.append(step.request)
            answer = answers.pop(0)
            step = talk.throw(answer) if isinstance(answer, Exception) else talk.send(answer)
    except StopIteration as end:
        return end.value, waits, sent


def _problem(status: int, **more: Any) -> Answer:
    return Answer(status, {}, json.dumps({"title": "t", "status": status, "detail": "what", **more}).encode())


def test_silence_and_busy_are_tried_again() -> None:
    busy = Answer(503, {"retry-after": "7"}, _problem(503).content)
    page, waits, _ = _driven(
        asked(list_runs(limit=1, cursor="", state="")), [Unreachable("no"), busy, Unreachable("no"), EMPTY_PAGE]
    )
    assert page.runs == ()
    assert waits == [0.5, 7.0, 2.0]


@pytest.mark.parametrize(("failure", "kind"), [(Unreachable("no"), Unreachable), (_problem(503), NotReady)])
def test_tries_end(failure: Answer | Exception, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        _driven(asked(list_runs(limit=1, cursor="", state="")), [failure] * TRIES)


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422, 500])
def test_refusal_is_not_tried_again(status: int) -> None:
    answers: list[Answer | Exception] = [_problem(status), EMPTY_PAGE]
    with pytest.raises(Exception, match=f"what .status {status}"):
        _driven(asked(list_runs(limit=1, cursor="", state="")), answers)
    assert answers == [EMPTY_PAGE]


def test_retried_start_keeps_its_key() -> None:
    call = start_run({"name": "tiny"}, key="", requested_by="")
    with pytest.raises(Unreachable):
        _driven(asked(call), [Unreachable("no")] * TRIES)
    assert (
        call.request.headers["idempotency-key"]
        != start_run({}, key="", requested_by="").request.headers["idempotency-key"]
    )


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, BadRequest), (401, Unauthorized), (404, NotFound), (409, Conflict), (422, Invalid), (502, ServerError)],
)
def test_problem_is_an_error_of_its_kind(status: int, kind: type[Exception]) -> None:
    faults = [{"field": "suite.axes", "message": "missing", "value": ""}]
    error = error_of(status, headers={}, content=_problem(status, faults=faults).content)
    assert type(error) is kind
    assert (error.status, error.detail, error.faults[0].field) == (status, "what", "suite.axes")
    assert "suite.axes: missing" in str(error)


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b'{"detail": 1, "faults": 3}', b"\xff\xfe"])
def test_answer_that_is_no_problem_is_shown_as_it_is(content: bytes) -> None:
    assert error_of(502, headers={"retry-after": "soon"}, content=content).status == 502


def _stream(documents: list[dict[str, Any]]) -> bytes:
    blocks = ["retry: 1000\nid: start\n\n", ": keep-alive\n\n"]
    blocks += [
        f"id: c{n}\nevent: mendloop.v1.EvalFailed\ndata: {json.dumps(document, ensure_ascii=False)}\n\n"
        for n, document in enumerate(documents)
    ]
    return "".join(blocks).encode()


DOCUMENT = st.builds(lambda text: {"headers": {"ce_id": text}, "message": {"a": text}}, st.text(max_size=20))


@given(st.lists(DOCUMENT, max_size=4), st.data())
def test_events_are_the_same_however_the_bytes_are_cut(documents: list[dict[str, Any]], data: st.DataObject) -> None:
    raw, place = _stream(documents), Place(Request("GET", "/v1/events"))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    chunks = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    found: list[Event] = [event for chunk in chunks for event in place.feed(chunk)]
    assert [event.headers["ce_id"] for event in found] == [d["headers"]["ce_id"] for d in documents]
    assert [event.cursor for event in found] == [f"c{n}" for n in range(len(documents))]
    assert {event.type for event in found} <= {"EvalFailed"}


def test_reader_goes_on_behind_the_last_whole_event() -> None:
    raw = _stream([{"headers": {}, "message": {}}] * 2)
    place = Place(events(runs=["r"], types=(), causes=(), slices=(), after="beginning"))
    assert ("from", "beginning") in place.request().params
    list(place.feed(raw[:-3]))  # the second event was cut
    again = place.request()
    assert (again.headers["last-event-id"], list(again.params)) == ("c0", [("run", "r")])


def test_reader_waits_longer_after_each_failure_and_gives_up_on_a_refusal() -> None:
    place = Place(Request("GET", "/v1/events"))
    assert [place.ended(Unreachable("no")) for _ in range(3)] == [0.5, 1.0, 2.0]
    list(place.feed(b"id: c\n\n"))
    assert place.ended() == 0.5
    assert place.ended(NotReady(503, "busy", retry_after_s=5.0)) == 5.0
    with pytest.raises(BadRequest):
        place.ended(BadRequest(400, "unknown cause"))


@pytest.mark.parametrize("run_id", ["", ".", ".."])
def test_run_id_that_names_another_path_is_refused(run_id: str) -> None:
    with pytest.raises(ValueError, match="run_id"):
        get_run(run_id)


def test_run_id_is_quoted() -> None:
    assert get_run("a/../b?c").request.path == "/v1/runs/a%2F..%2Fb%3Fc"


def test_token_comes_from_the_argument_the_environment_or_the_local_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MENDLOOP_TOKEN", raising=False)
    monkeypatch.delenv("MENDLOOP_TOKEN_FILE", raising=False)

    def token(given: str | None = None) -> str:
        return Connection.of("http://h", token=given, timeout_s=1).token

    assert token() == ""
    (tmp_path / ".mendloop").mkdir()
    (tmp_path / ".mendloop" / "gateway-token").write_text("from-file\n")
    assert token() == "from-file"
    monkeypatch.setenv("MENDLOOP_TOKEN", "from-environment")
    assert token() == "from-environment"
    assert token("given") == "given"
    assert "given" not in repr(Connection.of("http://h", token="given", timeout_s=1))


def test_importing_mendloop_loads_no_client() -> None:
    script = "import mendloop, sys; assert 'httpx' not in sys.modules; from mendloop import Client, AsyncClient"
    subprocess.run([sys.executable, "-c", script], check=True)
