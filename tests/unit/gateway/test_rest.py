"""REST over runs: the right status and a problem document for each kind of bad request, and one run per key."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient
from gateways import CountingTask, Parts, gateway, model_directory, recipe_document
from run_events import batch, data_run, finished, ready, sent
from waiting import wait_until

from mendloop.bus.base import Cursor, Delivery
from mendloop.core.contracts import all_topics
from mendloop.gateway import feed as feeds
from mendloop.gateway.subscription import BEGINNING, Subscription
from mendloop.runs.stream import EVERYTHING, TOPICS, decode_cursor
from mendloop.submission import submit as submission
from mendloop.v1 import loop_pb2


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    monkeypatch.setattr(submission, "find_task", lambda name, options: CountingTask())
    model_directory(tmp_path)
    return gateway(tmp_path, max_body_bytes=4096, allowed_hosts=["testserver"])


@pytest.fixture
def client(parts: Parts) -> Iterator[TestClient]:
    with TestClient(parts.app, raise_server_exceptions=False) as client:
        assert parts.feed.wait_current(timeout_s=10)
        yield client


class NoLog:
    """A log that nobody may read."""

    def read(self, topics: Sequence[str], *, cursor: Cursor | None = None, limit: int = 1000) -> list[Delivery]:
        """Nobody should."""
        raise AssertionError("the log was read")


def _publish(parts: Parts, *run_ids: str, events: int | None = None) -> None:
    for run_id in run_ids:
        parts.bus.publish(data_run(run_id)[:events])
    wait_until(lambda: all(parts.feed.runs.view(run_id) for run_id in run_ids))


def _published(parts: Parts, kind: str) -> list[Any]:
    return [d.envelope for d in parts.bus.read(all_topics()) if d.envelope.event_type.endswith(kind)]


def _is_problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == status
    assert document["title"]
    return document


def test_recipe_as_json_starts_a_run_that_can_be_read_at_once(client: TestClient, parts: Parts) -> None:
    answer = client.post("/v1/runs", json=recipe_document())
    assert answer.status_code == 201, answer.text
    run_id = answer.json()["run_id"]
    assert answer.headers["location"] == f"/v1/runs/{run_id}"
    document = client.get(f"/v1/runs/{run_id}").json()
    assert (document["recipe"], document["state"]) == ("tiny", "requested")
    assert document["recipe_facts"]["new_examples"] == 64
    assert len(_published(parts, "LoopRequested")) == 1


def test_recipe_as_yaml_starts_a_run(client: TestClient) -> None:
    answer = client.post(
        "/v1/runs", content=yaml.safe_dump(recipe_document()), headers={"content-type": "application/yaml"}
    )
    assert answer.status_code == 201, answer.text


def test_same_key_gives_the_same_run(client: TestClient, parts: Parts) -> None:
    first, second = (
        client.post("/v1/runs", json=recipe_document(), headers={"Idempotency-Key": "k1"}) for _ in range(2)
    )
    other = client.post("/v1/runs", json=recipe_document(), headers={"Idempotency-Key": "k2"})
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["run_id"] == second.json()["run_id"] != other.json()["run_id"]
    assert len(_published(parts, "LoopRequested")) == 2


def test_key_is_known_after_a_restart(tmp_path: Path, client: TestClient, parts: Parts) -> None:
    before = client.post("/v1/runs", json=recipe_document(), headers={"Idempotency-Key": "k1"})
    restarted = gateway(tmp_path)
    with TestClient(restarted.app) as again:
        assert restarted.feed.wait_current(timeout_s=10)
        after = again.post("/v1/runs", json=recipe_document(), headers={"Idempotency-Key": "k1"})
    assert (after.status_code, after.json()["run_id"]) == (200, before.json()["run_id"])


def test_key_of_another_recipe_is_refused(client: TestClient) -> None:
    client.post("/v1/runs", json=recipe_document(), headers={"Idempotency-Key": "k1"})
    answer = client.post("/v1/runs", json=recipe_document(seed=5), headers={"Idempotency-Key": "k1"})
    assert "another recipe" in _is_problem(answer, 422)["detail"]


@pytest.mark.parametrize("kind", ["application/json", "application/yaml"])
def test_each_wrong_field_is_a_fault(client: TestClient, parts: Parts, kind: str) -> None:
    document = recipe_document(rounds=0, colour="red")
    document["suite"]["fdr"] = 7
    answer = client.post("/v1/runs", content=json.dumps(document), headers={"content-type": kind})
    faults = {fault["field"]: fault for fault in _is_problem(answer, 422)["faults"]}
    assert set(faults) == {"rounds", "colour", "suite.fdr"}
    assert faults["suite.fdr"]["value"] == "7"
    assert _published(parts, "LoopRequested") == []


def test_recipe_that_cannot_run_names_its_field(client: TestClient, parts: Parts) -> None:
    answer = client.post("/v1/runs", json=recipe_document(corpus={"source": "missing"}))
    assert _is_problem(answer, 422)["faults"][0]["field"] == "corpus"
    assert _published(parts, "LoopRequested") == []


@pytest.mark.parametrize("model", ["/etc", "../elsewhere"])
def test_model_outside_the_models_folder_is_refused(client: TestClient, model: str) -> None:
    answer = client.post("/v1/runs", json=recipe_document(base={"model": model}))
    assert "models_dir" in _is_problem(answer, 422)["detail"]


def test_a_teacher_is_refused_over_the_network(client: TestClient, parts: Parts) -> None:
    teacher = {"url": "http://169.254.169.254/v1", "model": "m", "api_key_file": "/etc/passwd"}
    answer = client.post("/v1/runs", json=recipe_document(teacher=teacher))
    assert "teacher names a file and an address" in _is_problem(answer, 422)["detail"]
    assert _published(parts, "LoopRequested") == []


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[1]", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"[" * 4000, "application/json", 400),
        (b"a: [", "application/yaml", 400),
        (b"just words", "application/yaml", 400),
        (b"a: &x [1]\nb: *x", "application/yaml", 400),
        (b"[" * 4000, "application/yaml", 400),
        (b"name=tiny", "application/x-www-form-urlencoded", 415),
        (b" " * 4097, "application/json", 413),
    ],
)
def test_body_that_cannot_be_read_is_refused(client: TestClient, body: bytes, kind: str, status: int) -> None:
    _is_problem(client.post("/v1/runs", content=body, headers={"content-type": kind}), status)


def test_body_without_a_declared_length_is_limited_too(client: TestClient) -> None:
    answer = client.post("/v1/runs", content=iter([b" " * 3000] * 2), headers={"content-type": "application/json"})
    _is_problem(answer, 413)


def test_foreign_host_is_refused_and_probes_are_not(client: TestClient) -> None:
    _is_problem(client.get("/v1/runs", headers={"host": "evil.example"}), 421)
    assert client.get("/healthz", headers={"host": "10.0.0.7:8080"}).status_code == 200


@pytest.mark.parametrize("path", ["/v1/runs/none", "/v1/runs/none/events", "/v1/nothing"])
def test_unknown_place_is_a_problem(client: TestClient, path: str) -> None:
    _is_problem(client.get(path), 404)


def test_wrong_method_is_a_problem(client: TestClient) -> None:
    _is_problem(client.delete("/v1/runs"), 405)


def test_pages_hold_every_run_once_newest_first(client: TestClient, parts: Parts) -> None:
    names = [f"r{n}" for n in range(7)]
    _publish(parts, *names)
    seen, cursor = [], ""
    while True:
        page = client.get("/v1/runs", params={"limit": 3, "cursor": cursor}).json()
        seen += [run["run_id"] for run in page["runs"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert seen == sorted(names, reverse=True)


def test_runs_can_be_chosen_by_state(client: TestClient, parts: Parts) -> None:
    _publish(parts, "r1")
    _publish(parts, "r2", events=2)
    wait_until(lambda: client.get("/v1/runs/r1").json()["state"] == "finished")
    page = client.get("/v1/runs", params={"state": "evaluating"}).json()
    assert [run["run_id"] for run in page["runs"]] == ["r2"]


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "state=asleep"])
def test_wrong_query_is_a_fault(client: TestClient, query: str) -> None:
    assert _is_problem(client.get(f"/v1/runs?{query}"), 422)["faults"]


@pytest.mark.parametrize(
    "path", ["/v1/runs?cursor=%21", "/v1/runs?cursor=e30", "/v1/events?type=Nonsense", "/v1/events?cause=bad-luck"]
)
def test_wrong_cursor_or_filter_is_malformed(client: TestClient, path: str) -> None:
    _is_problem(client.get(path), 400)


def test_wrong_last_event_id_is_malformed(client: TestClient) -> None:
    _is_problem(client.get("/v1/events", headers={"Last-Event-ID": "rubbish"}), 400)


def test_cancel_is_one_event_however_often_it_is_asked(client: TestClient, parts: Parts) -> None:
    _publish(parts, "r1", events=3)
    for _ in range(2):
        answer = client.post("/v1/runs/r1/cancel", json={"reason": "enough", "by": "ada"})
        assert answer.status_code == 202, answer.text
        wait_until(lambda: client.get("/v1/runs/r1").json()["state"] == "cancelling")
    [envelope] = _published(parts, "LoopCancelled")
    message = loop_pb2.LoopCancelled.FromString(envelope.value)
    assert (message.reason, message.cancelled_by) == ("enough", "ada")


def test_cancel_needs_no_body(client: TestClient, parts: Parts) -> None:
    _publish(parts, "r1", events=3)
    assert client.post("/v1/runs/r1/cancel").status_code == 202


def test_finished_run_cannot_be_cancelled(client: TestClient, parts: Parts) -> None:
    parts.bus.publish([*data_run("r1")[:2], sent(finished("r1"), second=30)])
    wait_until(lambda: (view := parts.feed.runs.view("r1")) and view.finish)
    assert "is over: promoted" in _is_problem(client.post("/v1/runs/r1/cancel", json={}), 409)["detail"]


def test_run_is_paused_and_resumed_with_who_and_why(client: TestClient, parts: Parts) -> None:
    _publish(parts, "r1", events=3)
    assert client.post("/v1/runs/r1/pause", json={"reason": "night", "by": "ada"}).status_code == 202
    wait_until(lambda: client.get("/v1/runs/r1").json()["state"] == "paused")
    assert client.post("/v1/runs/r1/resume").status_code == 202
    wait_until(lambda: client.get("/v1/runs/r1").json()["state"] != "paused")
    asked = [loop_pb2.LoopSteered.FromString(envelope.value) for envelope in _published(parts, "LoopSteered")]
    assert [(m.reason, m.steered_by) for m in asked] == [("night", "ada"), ("", "")]


def test_run_without_a_promotion_cannot_be_rolled_back(client: TestClient, parts: Parts) -> None:
    _publish(parts, "r1", events=3)
    assert "no promotion that stands" in _is_problem(client.post("/v1/runs/r1/rollback", json={}), 409)["detail"]


def test_approval_carries_who_and_why(client: TestClient, parts: Parts) -> None:
    _publish(parts, "r1", events=10)
    wait_until(lambda: client.get("/v1/runs/r1").json()["state"] == "waiting-approval")
    body = {"plan_id": "p1", "approved": False, "reason": "too dear", "by": "bo"}
    assert client.post("/v1/runs/r1/approval", json=body).status_code == 202
    [envelope] = _published(parts, "ApprovalGiven")
    message = loop_pb2.ApprovalGiven.FromString(envelope.value)
    assert (message.position.round, message.approved, message.approved_by, message.reason) == (
        1,
        False,
        "bo",
        "too dear",
    )
    wait_until(lambda: client.get("/v1/runs/r1").json()["rounds"][-1]["approval"]["answer"])
    assert client.post("/v1/runs/r1/approval", json=body).status_code == 202
    changed = client.post("/v1/runs/r1/approval", json={**body, "approved": True})
    assert "refused by bo already" in _is_problem(changed, 409)["detail"]
    assert len(_published(parts, "ApprovalGiven")) == 1


def test_a_review_is_answered_only_where_the_answer_says_that_it_is_one(client: TestClient, parts: Parts) -> None:
    made = batch()
    made.awaits_review = True
    question = loop_pb2.ApprovalRequested(position=made.position, plan_id="p1", summary="look", review=True)
    parts.bus.publish([*data_run()[:12], sent(made, second=12), sent(question, second=13)])
    wait_until(lambda: client.get("/v1/runs/r1").json().get("state") == "waiting-review")

    assert client.post("/v1/runs/r1/approval", json={"plan_id": "p1", "approved": True}).status_code == 202
    body = {"plan_id": "p1", "approved": True, "review": True, "by": "cy"}
    assert client.post("/v1/runs/r1/approval", json=body).status_code == 202

    answers = [loop_pb2.ApprovalGiven.FromString(e.value) for e in _published(parts, "ApprovalGiven")]
    assert [(a.review, a.reviewed.example_count) for a in answers] == [(False, 0), (True, 30)]


def test_approval_of_a_plan_that_does_not_wait_is_a_conflict(client: TestClient, parts: Parts) -> None:
    _publish(parts, "r1", events=3)
    answer = client.post("/v1/runs/r1/approval", json={"plan_id": "p9", "approved": True})
    assert "does not wait for plan 'p9'" in _is_problem(answer, 409)["detail"]


@pytest.mark.parametrize("body", [{}, {"plan_id": "p1"}, {"plan_id": "p1", "approved": "yes"}, {"x": 1}])
def test_approval_without_its_fields_is_a_fault(client: TestClient, parts: Parts, body: dict[str, Any]) -> None:
    _publish(parts, "r1", events=10)
    assert _is_problem(client.post("/v1/runs/r1/approval", json=body), 422)["faults"]
    assert _published(parts, "ApprovalGiven") == []


def test_events_of_a_run_come_in_pages_from_its_first(client: TestClient, parts: Parts) -> None:
    _publish(parts, "r1", "r2")
    seen, cursor = [], ""
    while True:
        page = client.get("/v1/runs/r1/events", params={"limit": 7, "cursor": cursor}).json()
        seen += [event["headers"]["ce_id"] for event in page["events"]]
        cursor = page["next_cursor"]
        if page["is_end"]:
            break
    assert seen == [f"r1/{n}" for n in range(19)]
    assert decode_cursor(cursor)


def _pages(client: TestClient, run_id: str, *, cursor: str = "") -> list[dict[str, Any]]:
    pages = []
    while not pages or not pages[-1]["is_end"]:
        pages.append(client.get(f"/v1/runs/{run_id}/events", params={"limit": 4, "cursor": cursor}).json())
        cursor = pages[-1]["next_cursor"]
    return pages


def _ids(pages: list[dict[str, Any]]) -> list[str]:
    return [event["headers"]["ce_id"] for page in pages for event in page["events"]]


def test_events_of_a_run_behind_the_feeds_memory_come_from_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "KEEP_EVENTS", 3)
    parts = gateway(tmp_path, history=NoLog(), allowed_hosts=["testserver"])
    with TestClient(parts.app) as client:
        parts.bus.publish(data_run("r0"))
        parts.bus.publish([event for pair in zip(data_run("r1"), data_run("r2"), strict=True) for event in pair])
        wait_until(lambda: (view := parts.feed.runs.view("r2")) and view.is_finished)
        pages = _pages(client, "r1")
        assert _ids(pages) == [f"r1/{n}" for n in range(19)]
        for page in pages[:2]:
            last = int(page["events"][-1]["headers"]["ce_id"].removeprefix("r1/"))
            assert _ids(_pages(client, "r1", cursor=page["next_cursor"])) == [f"r1/{n}" for n in range(last + 1, 19)]
        parts.bus.publish([sent(ready("r1", round=2), second=90, event_id="later")])
        wait_until(lambda: parts.feed.runs.view("r1").round_at(2, ""))
        assert _ids(_pages(client, "r1", cursor=pages[-1]["next_cursor"])) == ["later"]


def test_a_cursor_of_a_runs_page_resumes_any_stream_at_the_runs_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "KEEP_EVENTS", 3)
    parts = gateway(tmp_path, allowed_hosts=["testserver"])
    with TestClient(parts.app) as client:
        for run_id in ("r0", "r1", "r2"):
            parts.bus.publish(data_run(run_id))
        wait_until(lambda: (view := parts.feed.runs.view("r2")) and view.is_finished)
        cursor = _pages(client, "r1")[1]["next_cursor"]
    subscription = Subscription(parts.feed, parts.bus, wanted=EVERYTHING, cursor=cursor)
    seen = []
    while subscription.is_behind:
        seen += [entry.envelope.event_id for entry in subscription.pull()]
    assert seen == [f"r1/{n}" for n in range(8, 19)] + [f"r2/{n}" for n in range(19)]


def test_events_that_wait_for_the_database_are_read_off_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "KEEP_EVENTS", 3)
    parts = gateway(tmp_path, allowed_hosts=["testserver"])
    parts.bus.publish(data_run("r1")[:5])
    parts.feed.step()
    start = parts.ports.run_logs.start("r1", cursor=BEGINNING)
    parts.bus.publish(data_run("r1")[5:])
    parts.feed.runs.trouble = "the database is away"  # type: ignore[misc]  # the run book's is settable
    log = parts.ports.run_logs.of("r1")
    found = log.read(TOPICS, cursor=decode_cursor(start), limit=100)
    assert [one.envelope.event_id for one in found] == [f"r1/{n}" for n in range(19)]


def test_event_shows_zeros_and_its_headers(client: TestClient, parts: Parts) -> None:
    _publish(parts, "r1")
    events = client.get("/v1/runs/r1/events").json()["events"]
    failed = next(event for event in events if event["type"] == "mendloop.v1.EvalFailed")
    assert failed["message"]["accuracy"]["correct"] == 0
    assert failed["message"]["slice"]["conditions"] == [{"axis": "verb", "value": "jump"}]
    assert failed["headers"]["ce_source"] == "/mendloop/test"


def test_health_readiness_and_metrics_are_served(client: TestClient, parts: Parts) -> None:
    _publish(parts, "r1")
    assert client.get("/healthz").text == "ok\n"
    assert client.get("/readyz").status_code == 200
    wait_until(lambda: 'type="mendloop.v1.LoopFinished"' in client.get("/metrics").text)
    assert 'mendloop_up{service="gateway"} 1.0' in client.get("/metrics").text


def test_description_names_the_recipe_and_every_route(client: TestClient) -> None:
    description = client.get("/openapi.json").json()
    assert {"/v1/runs", "/v1/runs/{run_id}", "/v1/runs/{run_id}/approval", "/v1/events"} <= set(description["paths"])
    schemas = description["components"]["schemas"]
    used = set(json.dumps(description).split('"#/components/schemas/')[1:])
    assert {text.split('"')[0] for text in used} <= set(schemas)
    assert schemas["Recipe"]["properties"]["suite"]["$ref"] == "#/components/schemas/SuiteSettings"


def test_unexpected_error_leaks_nothing(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("secret of the database")

    monkeypatch.setattr(submission, "find_task", broken)
    document = _is_problem(client.post("/v1/runs", json=recipe_document()), 500)
    assert "secret" not in json.dumps(document)
