"""Both clients against a gateway behind a real socket: they do the same, also over a restart."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gateways import CountingTask, Parts, gateway, model_directory, recipe_document
from live_gateway import live
from ports import free_port
from run_events import data_run, finished, sent
from waiting import wait_until

from mendloop import AsyncClient, Client
from mendloop.client import BadRequest, Conflict, Event, Invalid, NotFound, Run, Unreachable, WaitTimeout
from mendloop.core.contracts import all_topics
from mendloop.submission import submit as submission
from mendloop.v1 import evaluation_pb2


class Awaited:
    """An AsyncClient with the methods of a Client, so that a test is written once."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            async def work() -> Any:
                async with AsyncClient(self._url) as client:
                    return await getattr(client, name)(*arguments, **options)

            return asyncio.run(work())

        return call

    def events(self, *, count: int, **options: Any) -> list[Event]:
        """The first events of a stream."""

        async def work() -> list[Event]:
            found: list[Event] = []
            async with AsyncClient(self._url) as client:
                async for event in client.events(**options):
                    found.append(event)
                    if len(found) == count:
                        break
            return found

        return asyncio.run(work())


class Blocking(Client):
    """A Client whose events end after some."""

    def events(self, *, count: int, **options: Any) -> Any:
        """The first events of a stream."""
        stream = super().events(**options)
        return [next(stream) for _ in range(count)]


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    monkeypatch.setattr(submission, "find_task", lambda name, options: CountingTask())
    model_directory(tmp_path)
    return gateway(tmp_path, keep_alive_s=0.2)


@pytest.fixture
def url(parts: Parts) -> Iterator[str]:
    with live(parts) as url:
        yield url


@pytest.fixture(params=[Blocking, Awaited])
def client(request: pytest.FixtureRequest, url: str) -> Any:
    return request.param(url)


def _seen(parts: Parts, run_id: str) -> None:
    wait_until(lambda: parts.feed.runs.view(run_id))


def test_started_run_is_listed_and_read(client: Any) -> None:
    started = client.start_run(recipe_document(), key="k", requested_by="ada")
    again = client.start_run(recipe_document(), key="k")
    assert (started.run_id, started.state, started.is_finished) == (again.run_id, "requested", False)
    assert [run.run_id for run in client.list_runs().runs] == [started.run_id]
    assert client.get_run(started.run_id).document["request"]["requested_by"] == "ada"


def test_run_has_its_numbers_typed(client: Any, parts: Parts) -> None:
    parts.bus.publish(data_run("r1"))
    _seen(parts, "r1")
    run = client.wait("r1", timeout_s=20, poll_s=0.05)
    assert (run.state, run.outcome) == ("finished", "promoted")
    base, candidate = run.rounds
    assert base.accuracy is not None
    assert (base.accuracy.n, base.accuracy.correct) == (60, 30)
    assert {failure.slice for failure in base.failures} == {"turn=right ∧ verb=jump", "verb=jump"}
    assert {verdict.cause for verdict in base.verdicts} == {"DATA_MISSING"}
    assert candidate.promoted is True


def test_waiting_tells_progress_and_ends(client: Any, parts: Parts) -> None:
    parts.bus.publish(data_run("r1")[:5])
    _seen(parts, "r1")
    seen: list[str] = []

    def progress(run: Run) -> None:
        seen.append(run.state)
        if len(seen) == 1:
            parts.bus.publish(data_run("r1")[5:])

    run = client.wait("r1", timeout_s=30, poll_s=0.05, on_progress=progress)
    assert run.is_finished
    assert seen[-1] == "finished"
    assert len(seen) > 1


def test_waiting_ends_in_time_and_the_run_goes_on(client: Any, parts: Parts) -> None:
    parts.bus.publish(data_run("r1")[:5])
    _seen(parts, "r1")
    with pytest.raises(WaitTimeout, match="r1 is"):
        client.wait("r1", timeout_s=0.1, poll_s=0.05)


def test_decisions_reach_the_run(client: Any, parts: Parts) -> None:
    parts.bus.publish(data_run("r1")[:10])
    wait_until(lambda: (view := parts.feed.runs.view("r1")) and view.current_round == 1)
    client.pause("r1", reason="lunch")
    wait_until(lambda: (view := parts.feed.runs.view("r1")) and view.is_paused)
    client.resume("r1")
    client.approve("r1", reason="fine", by="bo")
    client.cancel("r1")
    kinds = [d.envelope.event_type.rpartition(".")[2] for d in parts.bus.read(all_topics())]
    assert kinds[10:] == ["LoopSteered", "LoopSteered", "ApprovalGiven", "LoopCancelled"]


def test_refusal_is_typed(client: Any, parts: Parts) -> None:
    with pytest.raises(NotFound):
        client.get_run("nobody")
    with pytest.raises(Invalid) as refused:
        client.start_run(recipe_document(nonsense=1))
    assert refused.value.faults[0].field == "nonsense"
    parts.bus.publish([*data_run("r1"), sent(finished("r1"), event_id="end")])
    wait_until(lambda: (view := parts.feed.runs.view("r1")) and view.finish)
    with pytest.raises(Conflict):
        client.pause("r1")
    with pytest.raises(ValueError, match="waits for no approval"):
        client.refuse("r1")
    with pytest.raises(BadRequest):
        client.events(count=1, causes=["BAD_LUCK"])


def test_events_are_filtered_and_decode(client: Any, parts: Parts) -> None:
    parts.bus.publish([*data_run("r1"), *data_run("r2")])
    found = client.events(count=2, types=["EvalFailed"], slices=["turn=right"], after="beginning")
    assert [(event.event_id, event.run_id, event.type) for event in found] == [
        ("r1/6", "r1", "EvalFailed"),
        ("r2/6", "r2", "EvalFailed"),
    ]
    message = found[0].decode()
    assert isinstance(message, evaluation_pb2.EvalFailed)
    assert message.confirmation.n == 10
    assert [e.event_id for e in client.events(count=1, runs=["r1"], after=found[0].cursor)] == ["r1/7"]


def test_stream_goes_on_over_a_restart_of_the_gateway(tmp_path: Path) -> None:
    port, found = free_port(), []
    first = gateway(tmp_path, keep_alive_s=0.2)
    first.bus.publish(data_run("r1"))

    def read() -> None:
        with Client(f"http://127.0.0.1:{port}") as client:
            for event in client.events(after="beginning"):
                found.append(event.event_id)
                if len(found) == 57:
                    return

    reader = threading.Thread(target=read, daemon=True)
    with live(first, port=port):
        reader.start()
        wait_until(lambda: len(found) == 19)
    first.bus.publish(data_run("r2"))
    second = gateway(tmp_path, keep_alive_s=0.2)
    with live(second, port=port):
        second.bus.publish(data_run("r3"))
        reader.join(timeout=30)
    assert found == [f"r{n}/{i}" for n in (1, 2, 3) for i in range(19)]


def test_gateway_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mendloop.client.talking.FIRST_WAIT_S", 0.01)
    with Client(f"http://127.0.0.1:{free_port()}") as client, pytest.raises(Unreachable, match="does not answer"):
        client.list_runs()
    with pytest.raises(ValueError, match="http://"):
        Client("gateway:8080")


def test_report_is_a_page(client: Any, parts: Parts) -> None:
    parts.bus.publish(data_run("r1")[:2])
    _seen(parts, "r1")
    page = client.get_report("r1")
    assert b"Run r1" in page
    assert page.lstrip().lower().startswith(b"<!doctype html>")
