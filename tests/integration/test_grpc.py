"""LoopService over real sockets: every method, who may call it, each refusal's status, streams that lose nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import uvicorn
import yaml
from gateways import LOCAL_TOKEN, CountingTask, Parts, gateway, model_directory, recipe_document
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from run_events import JUMP, data_run, requested
from waiting import wait_until

from mendloop.core.contracts import all_topics
from mendloop.gateway.adapters import streams
from mendloop.gateway.adapters.grpc_errors import DETAILS_KEY
from mendloop.gateway.adapters.grpc_gate import SCOPES, address_of, scope_of
from mendloop.gateway.adapters.grpc_server import NAME, GrpcOptions
from mendloop.gateway.domain.access import RunLimits, Scope
from mendloop.submission import submit as submission
from mendloop.v1 import evaluation_pb2, loop_pb2
from mendloop.v1 import loop_service_pb2 as pb
from mendloop.v1.loop_service_pb2_grpc import LoopServiceStub

METHODS = [method.name for method in pb.DESCRIPTOR.services_by_name["LoopService"].methods]


@dataclass(slots=True)
class Served:
    """A gateway that serves gRPC."""

    parts: Parts
    ports: list[int] = field(default_factory=list)

    def channel(self, token: str = LOCAL_TOKEN, **options: Any) -> grpc.Channel:
        """A channel that shows a token with each call."""
        plain = grpc.insecure_channel(f"127.0.0.1:{self.ports[0]}", options=list(options.items()))
        return grpc.intercept_channel(plain, _Bearer(token)) if token else plain

    def stub(self, token: str = LOCAL_TOKEN) -> LoopServiceStub:
        """The service as a holder of a token calls it."""
        return LoopServiceStub(self.channel(token))


class _Bearer(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    def __init__(self, token: str) -> None:
        self._metadata = (("authorization", f"Bearer {token}"),)

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(details._replace(metadata=self._metadata), request)

    intercept_unary_stream = intercept_unary_unary


@contextmanager
def serving(folder: Path, **options: Any) -> Iterator[Served]:
    """A gateway's app in a real server, with gRPC on a free port."""
    ports: list[int] = []
    parts = gateway(folder, keep_alive_s=0.2, grpc=GrpcOptions(max_message_bytes=4096, started=ports.append), **options)
    server = uvicorn.Server(uvicorn.Config(parts.app, log_config=None, timeout_graceful_shutdown=1))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            assert parts.feed.wait_current(timeout_s=20)
            wait_until(lambda: ports)
            yield Served(parts, ports)
        finally:
            parts.feed.ask_stop()
            server.should_exit = True
            thread.join(timeout=20)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("grpc")
    model_directory(folder)
    with pytest.MonkeyPatch.context() as patch, serving(folder) as found:
        patch.setattr(submission, "find_task", lambda name, options: CountingTask())
        yield found


@pytest.fixture
def stub(served: Served) -> LoopServiceStub:
    return served.stub()


def _publish(served: Served, run_id: str, events: int | None = None) -> None:
    served.parts.bus.publish(data_run(run_id)[:events])
    wait_until(lambda: served.parts.feed.runs.view(run_id))


def _refused(call: Any, request: Any) -> grpc.RpcError:
    def answer() -> None:
        answered = call(request, timeout=20)
        if not hasattr(answered, "DESCRIPTOR"):
            next(answered)

    with pytest.raises(grpc.RpcError) as caught:
        answer()
    return caught.value


def _published(served: Served, kind: str, run_id: str) -> list[Any]:
    found = (delivery.envelope for delivery in served.parts.bus.read(all_topics()))
    return [one for one in found if one.event_type.endswith(kind) and one.key.startswith(run_id)]


def test_run_is_started_read_and_listed(stub: LoopServiceStub) -> None:
    request = pb.StartRunRequest(recipe=yaml.safe_dump(recipe_document()).encode(), idempotency_key="g1")
    first, second = stub.StartRun(request), stub.StartRun(request)
    assert (first.is_new, second.is_new, first.run.run_id) == (True, False, second.run.run_id)
    got = stub.GetRun(pb.GetRunRequest(run_id=first.run.run_id))
    assert (got.run.recipe, got.run.state, got.document["recipe_facts"]["new_examples"]) == ("tiny", "requested", 64)
    assert got.run.started_at.ToDatetime().year > 2020
    assert first.run.run_id in [run.run_id for run in stub.ListRuns(pb.ListRunsRequest(state="requested")).runs]


def test_pages_hold_every_run_once(served: Served, stub: LoopServiceStub) -> None:
    for n in range(3):
        _publish(served, f"page-{n}")
    seen, token = [], ""
    while True:
        page = stub.ListRuns(pb.ListRunsRequest(page_size=2, page_token=token))
        seen += [run.run_id for run in page.runs]
        token = page.next_page_token
        if not token:
            break
    assert len(seen) == len(set(seen))
    assert {f"page-{n}" for n in range(3)} <= set(seen)


def test_run_is_paused_resumed_and_cancelled_with_who_and_why(served: Served, stub: LoopServiceStub) -> None:
    _publish(served, "steered", events=3)
    stub.PauseRun(pb.PauseRunRequest(run_id="steered", reason="night", by="ada"))
    wait_until(lambda: stub.GetRun(pb.GetRunRequest(run_id="steered")).run.state == "paused")
    stub.ResumeRun(pb.ResumeRunRequest(run_id="steered"))
    stub.CancelRun(pb.CancelRunRequest(run_id="steered", reason="enough", by="ada"))
    [envelope] = _published(served, "LoopCancelled", "steered")
    message = loop_pb2.LoopCancelled.FromString(envelope.value)
    assert (message.reason, message.cancelled_by) == ("enough", "ada")
    [newest, *_] = served.parts.access.audit.page(limit=5, run_id="steered")
    assert (newest.deed.action, newest.deed.reason, newest.deed.result) == ("LoopService/CancelRun", "enough", "OK")
    assert newest.deed.address == "127.0.0.1"


def test_plan_is_approved_by_who_called(served: Served, stub: LoopServiceStub) -> None:
    _publish(served, "waits", events=10)
    wait_until(lambda: stub.GetRun(pb.GetRunRequest(run_id="waits")).run.state == "waiting-approval")
    key, token = served.parts.access.key_store.create("boss", scope=Scope.APPROVE, by="test")
    request = pb.ApproveInterventionRequest(run_id="waits", plan_id="p1", approved=True, reason="cheap", by="else")
    assert served.stub(token).ApproveIntervention(request).run.run_id == "waits"
    [envelope] = _published(served, "ApprovalGiven", "waits")
    assert loop_pb2.ApprovalGiven.FromString(envelope.value).approved_by == key.who


@pytest.mark.parametrize(
    ("method", "request_", "code", "fields"),
    [
        ("GetRun", pb.GetRunRequest(run_id="none"), grpc.StatusCode.NOT_FOUND, []),
        ("RollBackRun", pb.RollBackRunRequest(run_id="over"), grpc.StatusCode.FAILED_PRECONDITION, []),
        ("CancelRun", pb.CancelRunRequest(run_id="over"), grpc.StatusCode.FAILED_PRECONDITION, []),
        ("ListRuns", pb.ListRunsRequest(page_size=900), grpc.StatusCode.INVALID_ARGUMENT, ["page_size"]),
        ("ListRuns", pb.ListRunsRequest(page_token="!"), grpc.StatusCode.INVALID_ARGUMENT, []),
        ("StartRun", pb.StartRunRequest(recipe=b"a: ["), grpc.StatusCode.INVALID_ARGUMENT, []),
        ("StartRun", pb.StartRunRequest(recipe=b"\xff"), grpc.StatusCode.INVALID_ARGUMENT, []),
        ("StartRun", pb.StartRunRequest(recipe=b"x" * 5000), grpc.StatusCode.RESOURCE_EXHAUSTED, []),
        ("StreamEvents", pb.StreamEventsRequest(cursor="rubbish"), grpc.StatusCode.INVALID_ARGUMENT, []),
        ("StreamEvents", pb.StreamEventsRequest(types=["Nonsense"]), grpc.StatusCode.INVALID_ARGUMENT, []),
        (
            "ApproveIntervention",
            pb.ApproveInterventionRequest(run_id="over"),
            grpc.StatusCode.INVALID_ARGUMENT,
            ["plan_id"],
        ),
    ],
)
def test_refusal_has_its_status(
    served: Served, stub: LoopServiceStub, method: str, request_: Any, code: grpc.StatusCode, fields: list[str]
) -> None:
    if served.parts.feed.runs.view("over") is None:
        cut = [envelope for envelope in data_run("over") if "Promoted" not in envelope.event_type]
        served.parts.bus.publish(cut)
        wait_until(lambda: (view := served.parts.feed.runs.view("over")) and view.finish)
    error = _refused(getattr(stub, method), request_)
    assert error.code() is code, error.details()
    assert _violations(error) == fields


def _violations(error: Any) -> list[str]:
    raw = dict(error.trailing_metadata() or ()).get(DETAILS_KEY)
    if raw is None:
        return []
    details = error_details_pb2.BadRequest()
    status = status_pb2.Status.FromString(raw)
    assert status.code == error.code().value[0]
    assert status.details[0].Unpack(details)
    return [violation.field for violation in details.field_violations]


def test_each_wrong_field_of_a_recipe_is_named(stub: LoopServiceStub) -> None:
    recipe = yaml.safe_dump(recipe_document(rounds=0, colour="red")).encode()
    assert set(_violations(_refused(stub.StartRun, pb.StartRunRequest(recipe=recipe)))) == {"rounds", "colour"}


def test_key_of_another_recipe_exists_already(stub: LoopServiceStub) -> None:
    recipes = [yaml.safe_dump(recipe_document(seed=seed)).encode() for seed in (1, 2)]
    stub.StartRun(pb.StartRunRequest(recipe=recipes[0], idempotency_key="g2"))
    error = _refused(stub.StartRun, pb.StartRunRequest(recipe=recipes[1], idempotency_key="g2"))
    assert error.code() is grpc.StatusCode.ALREADY_EXISTS


@pytest.mark.parametrize("method", METHODS)
def test_every_method_refuses_strangers_and_smaller_scopes(served: Served, method: str) -> None:
    request = getattr(pb, f"{method}Request")()
    assert _refused(getattr(served.stub(""), method), request).code() is grpc.StatusCode.UNAUTHENTICATED
    assert _refused(getattr(served.stub("mend_x_1"), method), request).code() is grpc.StatusCode.UNAUTHENTICATED
    needed = SCOPES[method]
    if needed > Scope.READ:
        _, token = served.parts.access.key_store.create("small", scope=Scope(needed - 1), by="test")
        assert _refused(getattr(served.stub(token), method), request).code() is grpc.StatusCode.PERMISSION_DENIED


def test_method_without_a_scope_needs_admin() -> None:
    assert set(SCOPES) == set(METHODS)
    assert scope_of(f"/{NAME}/NewMethod") is Scope.ADMIN
    assert scope_of("/other.Service/Do") is Scope.ADMIN


@pytest.mark.parametrize(
    ("peer", "address"),
    [("ipv4:10.0.0.7:99", "10.0.0.7"), ("ipv6:%5B::1%5D:99", "::1"), ("unix:/tmp/x", "unix:/tmp/x")],
)
def test_address_is_read_of_a_peer(peer: str, address: str) -> None:
    assert address_of(peer) == address


def test_run_of_somebody_else_does_not_exist(served: Served) -> None:
    _publish(served, "team-a-1")
    _publish(served, "team-b-1")
    limits = RunLimits(own=False, patterns=("team-a-*",))
    _, token = served.parts.access.key_store.create("team a", scope=Scope.APPROVE, by="test", limits=limits)
    stub = served.stub(token)
    of_other, of_none = (_refused(stub.GetRun, pb.GetRunRequest(run_id=name)) for name in ("team-b-1", "team-b-9"))
    assert (of_other.code(), of_other.details()) == (of_none.code(), of_none.details().replace("b-9", "b-1"))
    assert [run.run_id for run in stub.ListRuns(pb.ListRunsRequest()).runs] == ["team-a-1"]
    events = stub.StreamEvents(pb.StreamEventsRequest(from_beginning=True))
    assert [event.headers["ce_subject"] for event in _events(events, 19)] == ["team-a-1"] * 19
    events.cancel()


def test_health_is_open_and_reflection_is_not(served: Served) -> None:
    health = health_pb2_grpc.HealthStub(served.channel(""))
    answer = health.Check(health_pb2.HealthCheckRequest(service=NAME))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        ProtoReflectionDescriptorDatabase(served.channel("")).get_services()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def _events(stream: Any, count: int) -> list[pb.StreamEventsResponse]:
    """The next events; answers that only move the place are left out."""
    found: list[pb.StreamEventsResponse] = []
    while len(found) < count:
        response = next(stream)
        if response.HasField("event"):
            found.append(response)
    return found


def _ids(responses: list[pb.StreamEventsResponse]) -> list[str]:
    return [response.headers["ce_id"] for response in responses]


def test_stream_resumes_without_loss_over_a_restart(tmp_path: Path) -> None:
    with serving(tmp_path) as first:
        first.parts.bus.publish(data_run("r1"))
        begun = _events(first.stub().StreamEvents(pb.StreamEventsRequest(from_beginning=True), timeout=20), 8)
    first.parts.bus.publish(data_run("r2"))
    with serving(tmp_path) as again:
        again.parts.bus.publish(data_run("r3"))
        request = pb.StreamEventsRequest(cursor=begun[-1].cursor)
        rest = _events(again.stub().StreamEvents(request, timeout=20), 3 * 19 - 8)
    assert _ids(begun + rest) == [f"r{n}/{i}" for n in (1, 2, 3) for i in range(19)]


def test_event_is_the_message_of_the_bus(served: Served, stub: LoopServiceStub) -> None:
    _publish(served, "plain")
    request = pb.StreamEventsRequest(from_beginning=True, runs=["plain"], types=["EvalFailed"], slices=[JUMP.slice_id])
    stream = stub.StreamEvents(request, timeout=20)
    [response] = _events(stream, 1)
    message = evaluation_pb2.EvalFailed()
    assert response.event.Unpack(message)
    assert (message.position.run_id, message.slice.slice_id) == ("plain", JUMP.slice_id)
    assert response.headers["ce_type"] == "mendloop.v1.EvalFailed"
    stream.cancel()


def test_silent_stream_shows_that_it_lives_and_where_it_stands(served: Served, stub: LoopServiceStub) -> None:
    stream = stub.StreamEvents(pb.StreamEventsRequest(runs=["nobody"]), timeout=20)
    start = next(stream)
    served.parts.bus.publish([requested("somebody")])
    moved = next(response for response in stream if response.cursor != start.cursor)
    assert not moved.HasField("event")
    stream.cancel()


def test_reader_that_takes_nothing_delays_nobody_and_is_given_up(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(60):
        served.parts.bus.publish(data_run(f"much-{n}"))
    monkeypatch.setattr(streams, "STALL_S", 1.0)
    before = served.parts.app.state.streams.open_count
    window = {"grpc.http2.lookahead_bytes": 1024, "grpc.http2.bdp_probe": 0}
    stuck = LoopServiceStub(served.channel(**window)).StreamEvents(pb.StreamEventsRequest(from_beginning=True))
    wait_until(lambda: served.parts.app.state.streams.open_count == before + 1)
    quick = served.stub().StreamEvents(pb.StreamEventsRequest(from_beginning=True), timeout=60)
    assert len(_events(quick, 60 * 19)) == 60 * 19
    quick.cancel()
    wait_until(lambda: served.parts.app.state.streams.open_count == before)
    stuck.cancel()


def test_stream_ends_when_its_key_is_revoked(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "RECHECK_S", 0.1)
    key, token = served.parts.access.key_store.create("ci", scope=Scope.READ, by="test")
    stream = served.stub(token).StreamEvents(pb.StreamEventsRequest(runs=["nobody"]), timeout=20)
    next(stream)
    served.parts.access.key_store.revoke(key.key_id)
    served.parts.access.entrance.authenticator.forget()
    assert [response for response in stream if response.HasField("event")] == []
