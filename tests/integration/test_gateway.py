"""The gateway as a process of its own and the event stream over real sockets: resume, slow readers, SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from gateways import Parts, gateway
from live_gateway import live
from ports import free_port
from run_events import JUMP, data_run, requested
from waiting import wait_until

from mendloop.gateway import feed as feeds
from mendloop.gateway.adapters import streams
from mendloop.gateway.domain.access import RunLimits, Scope
from mendloop.runs.stream import decode_cursor

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Received:
    """One server-sent event."""

    cursor: str
    kind: str
    event_id: str


def received(response: httpx.Response) -> Iterator[Received]:
    """The events of a stream; blocks without data carry none."""
    cursor, kind, data = "", "", ""
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if name == "id":
            cursor = value
        elif name == "event":
            kind = value
        elif name == "data":
            data = value
        elif not line and data:
            yield Received(cursor, kind, json.loads(data)["headers"]["ce_id"])
            kind, data = "", ""


def take(url: str, count: int, *, last: str = "", **params: str) -> list[Received]:
    """The next events of a new connection."""
    headers = {"Last-Event-ID": last} if last else {}
    with httpx.stream("GET", f"{url}/v1/events", params=params, headers=headers, timeout=20) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        events = received(response)
        return [next(events) for _ in range(count)]


def _ids(events: list[Received]) -> list[str]:
    return [event.event_id for event in events]


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return gateway(tmp_path, keep_alive_s=0.2)


def test_stream_from_the_beginning_gives_every_event_in_order(parts: Parts) -> None:
    parts.bus.publish(data_run("r1"))
    with live(parts) as url:
        events = take(url, 19, **{"from": "beginning"})
    assert _ids(events) == [f"r1/{n}" for n in range(19)]
    assert events[0].kind == "mendloop.v1.LoopRequested"


def test_reconnects_lose_and_double_nothing(parts: Parts) -> None:
    parts.bus.publish(data_run("r0"))
    with live(parts) as url:
        seen, last = [], ""
        for n in range(1, 6):
            parts.bus.publish(data_run(f"r{n}"))
            events = take(url, 11, last=last, **{"from": "beginning"})
            seen += _ids(events)
            last = events[-1].cursor
        seen += _ids(take(url, 6 * 19 - 55, last=last))
    assert seen == [f"r{n}/{i}" for n in range(6) for i in range(19)]


def test_restart_of_the_gateway_loses_and_doubles_nothing(parts: Parts, tmp_path: Path) -> None:
    with live(parts) as url:
        parts.bus.publish(data_run("r1"))
        first = take(url, 8, **{"from": "beginning"})
    parts.bus.publish(data_run("r2"))
    restarted = gateway(tmp_path, keep_alive_s=0.2)
    with live(restarted) as url:
        restarted.bus.publish(data_run("r3"))
        rest = take(url, 3 * 19 - 8, last=first[-1].cursor)
        assert restarted.feed.serial_after(decode_cursor(first[-1].cursor)) == 8  # from memory, not from the log
    assert _ids(first + rest) == [f"r{n}/{i}" for n in (1, 2, 3) for i in range(19)]


def test_reader_that_falls_behind_what_is_kept_goes_on_from_the_log(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "KEEP_EVENTS", 10)
    with live(parts) as url:
        parts.bus.publish(data_run("r0"))
        last = take(url, 5, **{"from": "beginning"})[-1].cursor
        for n in range(1, 4):
            parts.bus.publish(data_run(f"r{n}"))
        wait_until(lambda: (view := parts.feed.runs.view("r3")) and view.finish)
        rest = take(url, 4 * 19 - 5, last=last)
    assert _ids(rest) == [f"r{n}/{i}" for n in range(4) for i in range(19)][5:]


def test_live_stream_gets_what_comes_after_it_joined(parts: Parts) -> None:
    parts.bus.publish(data_run("r1"))
    with live(parts) as url, httpx.stream("GET", f"{url}/v1/events", timeout=20) as response:
        events = received(response)
        wait_until(lambda: parts.app.state.streams.open_count == 1)
        parts.bus.publish(data_run("r2"))
        assert [next(events).event_id for _ in range(19)] == [f"r2/{n}" for n in range(19)]


def test_place_of_a_silent_stream_moves_with_its_keep_alives(parts: Parts) -> None:
    with (
        live(parts) as url,
        httpx.stream("GET", f"{url}/v1/events", params={"run": "none"}, timeout=20) as response,
    ):
        lines = response.iter_lines()
        start = next(line for line in lines if line.startswith("id: "))
        parts.bus.publish([requested("r1")])
        assert next(line for line in lines if line.startswith(":")) == ": keep-alive"
        moved = next(line for line in lines if line.startswith("id: "))
        assert moved != start
        wait_until(lambda: parts.feed.runs.view("r1"))
        parts.bus.publish([requested("r2")])
        wait_until(lambda: parts.feed.runs.view("r2"))
        assert _ids(take(url, 1, last=moved.removeprefix("id: "))) == ["requested-r2"]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"run": "r2", "type": "LoopFinished"}, ["r2/18"]),
        ({"type": "mendloop.v1.EvalFailed", "slice": JUMP.slice_id, "run": "r1"}, ["r1/5"]),
        ({"type": "EvalFailed", "slice": "turn=right", "run": "r1"}, ["r1/6"]),
        ({"cause": "data_missing", "run": "r1"}, ["r1/7", "r1/8", "r1/11", "r1/12"]),
    ],
)
def test_filters_choose_events(parts: Parts, params: dict[str, str], expected: list[str]) -> None:
    parts.bus.publish([*data_run("r1"), *data_run("r2")])
    with live(parts) as url:
        assert _ids(take(url, len(expected), **{"from": "beginning"}, **params)) == expected
        # Nothing else follows: the next event of such a stream is one that is published now.
        headers = {"Accept": "text/event-stream"}
        with httpx.stream("GET", f"{url}/v1/runs/r1/events", headers=headers, timeout=20) as response:
            assert next(received(response)).event_id == "r1/0"


def test_filter_lets_nothing_else_through(parts: Parts) -> None:
    parts.bus.publish([*data_run("r1"), *data_run("r2")])
    with live(parts) as url:
        params = {"from": "beginning", "type": "LoopFinished"}
        with httpx.stream("GET", f"{url}/v1/events", params=params, timeout=20) as response:
            events = received(response)
            seen = [next(events).event_id for _ in range(2)]
            parts.bus.publish(data_run("r3"))
            seen.append(next(events).event_id)
    assert seen == ["r1/18", "r2/18", "r3/18"]


def test_reader_that_takes_nothing_delays_nobody(parts: Parts) -> None:
    with live(parts) as url:
        port = int(url.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port)) as stuck:
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stuck.sendall(b"GET /v1/events?from=beginning HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            wait_until(lambda: parts.app.state.streams.open_count == 1)
            for n in range(60):
                parts.bus.publish(data_run(f"r{n}"))
            assert len(take(url, 60 * 19, **{"from": "beginning"})) == 60 * 19
            assert httpx.get(f"{url}/v1/runs", timeout=5).status_code == 200


def test_reader_that_stays_stuck_is_given_up(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "STALL_S", 0.3)
    for n in range(200):
        parts.bus.publish(data_run(f"r{n}"))
    with live(parts) as url:
        port = int(url.rsplit(":", 1)[1])
        with socket.socket() as stuck:
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stuck.connect(("127.0.0.1", port))
            stuck.sendall(b"GET /v1/events?from=beginning HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            wait_until(lambda: parts.app.state.streams.open_count == 1)
            wait_until(lambda: parts.app.state.streams.open_count == 0)


def test_reader_that_leaves_is_forgotten(parts: Parts) -> None:
    with live(parts) as url:
        with httpx.stream("GET", f"{url}/v1/events", timeout=20):
            wait_until(lambda: parts.app.state.streams.open_count == 1)
        wait_until(lambda: parts.app.state.streams.open_count == 0)


def test_more_streams_than_allowed_are_told_to_come_again(tmp_path: Path) -> None:
    parts = gateway(tmp_path, max_streams=1)
    with live(parts) as url, httpx.stream("GET", f"{url}/v1/events", timeout=20):
        wait_until(lambda: parts.app.state.streams.open_count == 1)
        answer = httpx.get(f"{url}/v1/events", timeout=20)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_body_that_does_not_arrive_is_given_up(tmp_path: Path) -> None:
    parts = gateway(tmp_path, body_timeout_s=0.2)
    with live(parts) as url, socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1]))) as slow:
        slow.sendall(
            b"POST /v1/runs HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
        assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_process_tells_its_port_serves_and_ends_on_sigterm(tmp_path: Path) -> None:
    port_file, metrics_file = tmp_path / "ports" / "gateway", tmp_path / "ports" / "metrics"
    token_file = tmp_path / "gateway-token"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MENDLOOP_")} | {
        "MENDLOOP_BUS": f"local:{tmp_path / 'bus.db'}",
        "MENDLOOP_ARTIFACTS_URI": f"file://{tmp_path / 'artifacts'}",
        "MENDLOOP_SEALED_ARTIFACTS_URI": f"file://{tmp_path / 'sealed'}",
        "MENDLOOP_DATABASE_URL": f"sqlite:///{tmp_path / 'gateway.db'}",
        "MENDLOOP_TOKEN_FILE": str(token_file),
        "MENDLOOP_PORT": "0",
        "MENDLOOP_PORT_FILE": str(port_file),
        "MENDLOOP_METRICS_PORT_FILE": str(metrics_file),
    }
    process = subprocess.Popen([sys.executable, "-m", "mendloop.gateway"], env=environment, cwd=ROOT, stderr=-1)
    try:
        wait_until(port_file.exists, deadline_s=40)
        url = f"http://127.0.0.1:{port_file.read_text()}"
        wait_until(lambda: httpx.get(f"{url}/readyz", timeout=20).status_code == 200)
        assert metrics_file.read_text() == port_file.read_text()
        assert httpx.get(f"{url}/v1/runs", timeout=20).status_code == 401
        assert token_file.stat().st_mode & 0o777 == 0o600
        token = token_file.read_text().strip()
        signed_in = {"Authorization": f"Bearer {token}"}
        with httpx.stream("GET", f"{url}/v1/events", headers=signed_in, timeout=20) as response:
            lines = response.iter_lines()
            assert next(lines).startswith("retry")
            process.send_signal(signal.SIGTERM)
            assert [line for line in lines if line.startswith("data")] == []
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        _, log = process.communicate()
    assert b"service stopped" in log
    assert b"Traceback" not in log, log.decode()
    assert token.encode() not in log


def test_gateway_lives_while_its_broker_is_away(tmp_path: Path) -> None:
    with socket.socket() as nobody:  # bound, never listening: every connection is refused
        nobody.bind(("127.0.0.1", 0))
        metrics_file = tmp_path / "metrics"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MENDLOOP_")} | {
            "MENDLOOP_BUS": f"kafka:127.0.0.1:{nobody.getsockname()[1]}",
            "MENDLOOP_ARTIFACTS_URI": str(tmp_path / "artifacts"),
            "MENDLOOP_SEALED_ARTIFACTS_URI": str(tmp_path / "sealed"),
            "MENDLOOP_DATABASE_URL": f"sqlite:///{tmp_path / 'gateway.db'}",
            "MENDLOOP_WORK_DIR": str(tmp_path),
            "MENDLOOP_METRICS_PORT": str(free_port()),
            "MENDLOOP_METRICS_PORT_FILE": str(metrics_file),
        }
        log = tmp_path / "log"
        with log.open("wb") as output:
            process = subprocess.Popen([sys.executable, "-m", "mendloop.gateway"], env=environment, stderr=output)
        try:
            wait_until(lambda: log.read_text().count("the bus is away") > 1 or process.poll(), deadline_s=60)
            assert process.poll() is None, log.read_text()
            url = f"http://127.0.0.1:{metrics_file.read_text()}"
            assert httpx.get(f"{url}/healthz", timeout=20).status_code == 200
            assert httpx.get(f"{url}/readyz", timeout=20).status_code == 503
        finally:
            process.kill()
            process.wait()


def test_stream_ends_when_its_key_is_revoked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "RECHECK_S", 0.1)
    parts = gateway(tmp_path, is_open=False, keep_alive_s=0.1)
    key, token = parts.access.key_store.create("ci", scope=Scope.READ, by="test")
    with live(parts) as url:
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.stream("GET", f"{url}/v1/events", headers=headers, timeout=20) as response:
            lines = response.iter_lines()
            assert next(lines).startswith("retry")
            parts.access.key_store.revoke(key.key_id)
            parts.access.entrance.authenticator.forget()
            assert [line for line in lines if line.startswith("data")] == []


def test_browser_follows_the_stream_with_its_cookie(tmp_path: Path) -> None:
    parts = gateway(tmp_path, is_open=False)
    parts.bus.publish([*data_run("team-a-1"), *data_run("team-b-1")])
    _, token = parts.access.key_store.create(
        "team a", scope=Scope.READ, by="test", limits=RunLimits(own=False, patterns=("team-a-*",))
    )
    with live(parts) as url, httpx.Client(base_url=url, timeout=20) as browser:
        assert browser.post("/v1/session", json={"token": token}).status_code == 200
        with browser.stream("GET", "/v1/events", params={"from": "beginning"}) as response:
            events = received(response)
            seen = [next(events).event_id for _ in range(19)]
            parts.bus.publish([requested("team-b-2"), requested("team-a-2")])
            seen.append(next(events).event_id)
    assert seen == [*(f"team-a-1/{n}" for n in range(19)), "requested-team-a-2"]
