"""Who may do what over REST: keys, sessions, runs of others, the audit log, limits and headers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from gateways import LOCAL_TOKEN, CountingTask, Parts, gateway, model_directory, recipe_document
from run_events import data_run
from starlette.routing import Route
from waiting import wait_until

from mendloop.core.contracts import all_topics
from mendloop.gateway.adapters.entrance import Rates
from mendloop.gateway.domain.access import Scope
from mendloop.gateway.domain.access_rules import OPEN_RULES, SHUT, rule_for
from mendloop.gateway.domain.keys import split_token, token_of
from mendloop.gateway.domain.rates import Rate
from mendloop.submission import submit as submission
from mendloop.v1 import loop_pb2

DAY_S = 86_400.0
FAST, SLOW = Rate(100, 1000), Rate(0.001, 3)  # so slow that a busy machine does not matter
Headers = dict[str, str]
EVERYBODY = {"/healthz", "/readyz", "/metrics", "/", "/dead-letters", "/subscriptions", "/keys", "/favicon.ico"}


class Clock:
    """Unix time that tests move."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Parts:
    monkeypatch.setattr(submission, "find_task", lambda name, options: CountingTask())
    model_directory(tmp_path)
    return gateway(tmp_path, is_open=False, clock=clock)


@contextmanager
def _client(parts: Parts, **options: Any) -> Iterator[TestClient]:
    with TestClient(parts.app, raise_server_exceptions=False, **options) as client:
        assert parts.feed.wait_current(timeout_s=10)
        yield client


@pytest.fixture
def client(parts: Parts) -> Iterator[TestClient]:
    with _client(parts) as client:
        yield client


def _bearer(token: str) -> Headers:
    return {"Authorization": f"Bearer {token}"}


ADMIN = _bearer(LOCAL_TOKEN)


def _key(client: TestClient, scope: str = "read", **more: Any) -> tuple[str, Headers]:
    """Id and headers of a new key."""
    answer = client.post("/v1/keys", json={"name": "ci", "scope": scope, **more}, headers=ADMIN)
    assert answer.status_code == 201, answer.text
    return answer.json()["key"]["key_id"], _bearer(answer.json()["token"])


def _publish(parts: Parts, *run_ids: str, events: int | None = None) -> None:
    for run_id in run_ids:
        parts.bus.publish(data_run(run_id)[:events])
    wait_until(lambda: all(parts.feed.runs.view(run_id) for run_id in run_ids))


def test_every_route_demands_a_scope_or_is_on_the_open_list(parts: Parts) -> None:
    routes = [route for route in _routes(parts.app) if isinstance(route, Route | APIRoute)]
    assert len(routes) > 15
    for route in routes:
        for method in route.methods or ():
            rule = rule_for(method, route.path)
            assert rule is not SHUT, f"{method} {route.path} has no rule"
            if rule.scope is None:
                assert not route.path.startswith("/v1/") or (method, route.path) == ("POST", "/v1/session")


def _routes(app: Any) -> list[Any]:
    found = []
    for route in app.routes:
        inner = getattr(route, "original_router", None) or getattr(route, "router", None)
        found += _routes(inner) if inner is not None else [route]
    return found


def test_open_list_is_short_and_holds_no_data() -> None:
    paths = {rule.path for rule in OPEN_RULES}
    assert paths <= EVERYBODY | {"/v1/session", "/runs/*/**", "/assets/**"}


def test_every_described_route_refuses_a_stranger(client: TestClient) -> None:
    described = client.get("/openapi.json", headers=ADMIN).json()["paths"]
    for path, methods in described.items():
        for method in methods:
            answer = client.request(method, path.replace("{", "").replace("}", ""))
            is_open = path in EVERYBODY or path == "/v1/session"
            assert (answer.status_code == 401) is not is_open or path == "/v1/session", (method, path)


@pytest.mark.parametrize(
    "shown",
    ["", "Basic YTpi", "Bearer", f"Bearer {token_of('local', '00' * 32)}", f"Bearer {token_of('none', '5f' * 32)}"],
)
def test_stranger_is_told_to_sign_in(client: TestClient, shown: str) -> None:
    answer = client.get("/v1/runs", headers={"Authorization": shown} if shown else {})
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_local_token_opens_everything(client: TestClient) -> None:
    me = client.get("/v1/me", headers=ADMIN).json()
    assert (me["name"], me["scopes"]) == ("local user", ["read", "run", "approve", "admin"])
    assert client.get("/v1/audit", headers=ADMIN).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "needed"),
    [
        ("GET", "/v1/runs", None, Scope.READ),
        ("POST", "/v1/runs", recipe_document(), Scope.RUN),
        ("POST", "/v1/runs/r1/cancel", {}, Scope.RUN),
        ("POST", "/v1/runs/r1/rollback", {}, Scope.APPROVE),
        ("POST", "/v1/runs/r1/approval", {"plan_id": "p", "approved": True}, Scope.APPROVE),
        ("GET", "/v1/keys", None, Scope.ADMIN),
        ("GET", "/v1/audit", None, Scope.ADMIN),
        ("POST", "/v1/anything", {}, Scope.ADMIN),
    ],
)
def test_request_needs_its_scope_and_no_more(
    client: TestClient, method: str, path: str, body: Any, needed: Scope
) -> None:
    for scope in Scope:
        _, headers = _key(client, scope.word)
        answer = client.request(method, path, json=body, headers=headers)
        assert (answer.status_code == 403) is (scope < needed), (scope, answer.text)


def test_key_is_stored_as_a_hash_only(client: TestClient, tmp_path: Path) -> None:
    _, headers = _key(client)
    parted = split_token(headers["Authorization"].removeprefix("Bearer "))
    assert parted is not None
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("gateway.db*"))
    assert parted[0].encode() in stored
    assert parted[1].encode() not in stored
    assert parted[1] not in client.get("/v1/keys", headers=ADMIN).text


def test_key_ends_when_it_expires(client: TestClient, clock: Clock) -> None:
    _, headers = _key(client, expires_in_days=1)
    clock.now += DAY_S - 1
    assert client.get("/v1/me", headers=headers).status_code == 200
    clock.now += 1
    answer = client.get("/v1/me", headers=headers)
    assert (answer.status_code, "is expired" in answer.json()["detail"]) == (401, True)


def test_revoked_key_ends_at_once(client: TestClient) -> None:
    key_id, headers = _key(client)
    assert client.get("/v1/me", headers=headers).status_code == 200
    assert client.delete(f"/v1/keys/{key_id}", headers=ADMIN).json()["state"] == "revoked"
    assert client.get("/v1/me", headers=headers).status_code == 401


def test_rotated_key_goes_on_with_both_secrets_for_the_overlap(client: TestClient, clock: Clock) -> None:
    key_id, old = _key(client)
    made = client.post(f"/v1/keys/{key_id}/rotate", json={"overlap_s": 60}, headers=ADMIN).json()
    new = _bearer(made["token"])
    assert [client.get("/v1/me", headers=shown).status_code for shown in (old, new)] == [200, 200]
    clock.now += 60
    assert [client.get("/v1/me", headers=shown).status_code for shown in (old, new)] == [401, 200]


def test_last_use_of_a_key_is_known_to_the_minute(client: TestClient, clock: Clock) -> None:
    _, headers = _key(client)
    [unused] = client.get("/v1/keys", headers=ADMIN).json()["keys"]
    client.get("/v1/me", headers=headers)
    [used] = client.get("/v1/keys", headers=ADMIN).json()["keys"]
    assert (unused["last_used_at"], used["last_used_at"]) == (None, "2027-01-15T08:00:00Z")


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/keys/none/rotate"), ("DELETE", "/v1/keys/none")])
def test_unknown_key_is_a_problem(client: TestClient, method: str, path: str) -> None:
    assert client.request(method, path, headers=ADMIN).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"name": "", "scope": "read"},
        {"name": "x", "scope": "root"},
        {"name": "x", "scope": "admin", "own_runs": True},
        {"name": "x", "scope": "read", "runs": ["[a]"]},
        {"name": "x", "scope": "read", "expires_in_days": 0},
    ],
)
def test_impossible_key_is_refused(client: TestClient, body: dict[str, Any]) -> None:
    assert client.post("/v1/keys", json=body, headers=ADMIN).status_code == 422


def test_run_of_somebody_else_does_not_exist(client: TestClient, parts: Parts) -> None:
    _publish(parts, "team-a-1", "team-b-1")
    _, headers = _key(client, "approve", runs=["team-a-*"])
    assert client.get("/v1/runs/team-a-1", headers=headers).status_code == 200
    for method, rest, body in (
        ("GET", "", None),
        ("GET", "/events", None),
        ("POST", "/cancel", {}),
        ("POST", "/approval", {"plan_id": "p1", "approved": True}),
        ("POST", "/approval", {"nonsense": 1}),
    ):
        of_other = client.request(method, f"/v1/runs/team-b-1{rest}", json=body, headers=headers)
        of_none = client.request(method, f"/v1/runs/team-b-9{rest}", json=body, headers=headers)
        assert (of_other.status_code, of_none.status_code) == (404, 404), (method, rest)
        assert of_other.json()["detail"].replace("b-1", "b-9") == of_none.json()["detail"]


def test_list_and_events_hold_only_runs_that_are_seen(client: TestClient, parts: Parts) -> None:
    _publish(parts, "team-a-1", "team-b-1")
    _, headers = _key(client, runs=["team-a-*"])
    listed = client.get("/v1/runs", headers=headers).json()["runs"]
    assert [run["run_id"] for run in listed] == ["team-a-1"]


def test_key_of_some_runs_is_refused_what_is_about_all(client: TestClient, parts: Parts) -> None:
    _, headers = _key(client, "approve", own_runs=True)
    assert client.get("/v1/something", headers=headers).status_code == 403
    assert client.post("/v1/dead-letters/d1/replay", headers=headers).status_code == 403


def test_key_sees_runs_that_it_started(client: TestClient, parts: Parts) -> None:
    _publish(parts, "r1")
    key_id, headers = _key(client, "run", own_runs=True)
    started = client.post("/v1/runs?requested_by=ada", json=recipe_document(), headers=headers)
    assert started.status_code == 201, started.text
    listed = client.get("/v1/runs", headers=headers).json()["runs"]
    assert [run["run_id"] for run in listed] == [started.json()["run_id"]]
    [envelope] = [d.envelope for d in parts.bus.read(all_topics()) if d.envelope.key == started.json()["run_id"]]
    assert loop_pb2.LoopRequested.FromString(envelope.value).requested_by == f"ci (key {key_id})"


def test_key_of_other_runs_starts_none_outside_them(client: TestClient) -> None:
    _, headers = _key(client, "run", runs=["team-a-*"])
    assert client.post("/v1/runs", json=recipe_document(), headers=headers).status_code == 403
    assert client.post("/v1/runs", json=recipe_document(name="team-a"), headers=headers).status_code == 201


def test_idempotency_keys_of_two_people_are_two(client: TestClient) -> None:
    started = [
        client.post("/v1/runs", json=recipe_document(), headers={**headers, "Idempotency-Key": "k1"})
        for headers in (_key(client, "run")[1], _key(client, "run")[1])
    ]
    assert [answer.status_code for answer in started] == [201, 201]
    assert started[0].json()["run_id"] != started[1].json()["run_id"]


def test_approval_carries_who_asked_and_not_who_was_said(client: TestClient, parts: Parts) -> None:
    _publish(parts, "r1", events=10)
    wait_until(lambda: client.get("/v1/runs/r1", headers=ADMIN).json()["state"] == "waiting-approval")
    key_id, headers = _key(client, "approve")
    body = {"plan_id": "p1", "approved": True, "reason": "cheap", "by": "the boss"}
    assert client.post("/v1/runs/r1/approval", json=body, headers=headers).status_code == 202
    [given] = [d.envelope for d in parts.bus.read(all_topics()) if d.envelope.event_type.endswith("ApprovalGiven")]
    assert loop_pb2.ApprovalGiven.FromString(given.value).approved_by == f"ci (key {key_id})"


def test_audit_log_says_who_what_when_why_and_from_where(client: TestClient, parts: Parts) -> None:
    _publish(parts, "r1", events=3)
    key_id, headers = _key(client, "run")
    client.post("/v1/runs/r1/cancel", json={"reason": "enough"}, headers=headers)
    client.post("/v1/runs/r1/rollback", json={"reason": "regret"}, headers=headers)
    page = client.get("/v1/audit", params={"run": "r1"}, headers=ADMIN).json()
    refused, cancelled = page["entries"]
    assert cancelled == {
        "entry": cancelled["entry"],
        "at": "2027-01-15T08:00:00Z",
        "who": f"ci (key {key_id})",
        "credential": f"key:{key_id}",
        "action": "POST /v1/runs/r1/cancel",
        "run_id": "r1",
        "reason": "enough",
        "address": "testclient",
        "result": "202",
    }
    assert (refused["action"], refused["result"]) == ("POST /v1/runs/r1/rollback", "403")


def test_audit_log_comes_in_pages_newest_first(client: TestClient) -> None:
    for _ in range(5):
        _key(client)
    first = client.get("/v1/audit", params={"limit": 3}, headers=ADMIN).json()
    rest = client.get("/v1/audit", params={"limit": 3, "before": first["next_before"]}, headers=ADMIN).json()
    numbers = [entry["entry"] for entry in first["entries"] + rest["entries"]]
    assert numbers == sorted(numbers, reverse=True)
    assert (len(numbers), rest["next_before"]) == (5, 0)


def _sign_in(client: TestClient, token: str = LOCAL_TOKEN) -> Headers:
    answer = client.post("/v1/session", json={"token": token})
    assert answer.status_code == 200, answer.text
    return {"X-CSRF-Token": answer.json()["csrf_token"]}


def test_cookie_reads_and_changes_with_its_csrf_token_only(client: TestClient, parts: Parts) -> None:
    _publish(parts, "r1", events=3)
    csrf = _sign_in(client)
    assert client.get("/v1/runs/r1").status_code == 200
    assert client.get("/v1/session").json()["csrf_token"] == csrf["X-CSRF-Token"]
    assert client.post("/v1/runs/r1/pause").status_code == 403
    assert client.post("/v1/runs/r1/pause", headers={"X-CSRF-Token": "0" * 64}).status_code == 403
    assert client.post("/v1/runs/r1/pause", headers=csrf).status_code == 202


def test_cookie_is_kept_from_scripts_and_other_sites(client: TestClient, parts: Parts) -> None:
    plain = client.post("/v1/session", json={"token": LOCAL_TOKEN}).headers["set-cookie"]
    assert "HttpOnly" in plain
    assert "SameSite=strict" in plain
    secure = TestClient(parts.app, base_url="https://testserver")
    under_tls = secure.post("/v1/session", json={"token": LOCAL_TOKEN}).headers["set-cookie"]
    assert secure.get("/v1/me").status_code == 200
    assert "Secure" in under_tls
    assert under_tls.startswith("__Host-")


def test_signed_out_session_is_over(client: TestClient) -> None:
    csrf = _sign_in(client)
    stolen = dict(client.cookies)
    assert client.delete("/v1/session", headers=csrf).status_code == 204
    assert client.get("/v1/me").status_code == 401
    client.cookies.update(stolen)
    assert client.get("/v1/me").status_code == 401


def test_session_ends_with_its_key(client: TestClient) -> None:
    key_id, headers = _key(client)
    _sign_in(client, headers["Authorization"].removeprefix("Bearer "))
    assert client.get("/v1/me").json()["name"] == f"ci (key {key_id})"
    client.delete(f"/v1/keys/{key_id}", headers=ADMIN)
    assert client.get("/v1/me").status_code == 401


def test_session_outlives_a_restart_and_ends_after_its_time(
    client: TestClient, parts: Parts, tmp_path: Path, clock: Clock
) -> None:
    _sign_in(client)
    restarted = gateway(tmp_path, is_open=False, clock=clock)
    with _client(restarted, cookies=dict(client.cookies)) as again:
        assert again.get("/v1/me").status_code == 200
        clock.now += 12 * 3600
        assert again.get("/v1/me").status_code == 401


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_page_of_another_site_signs_nobody_in(client: TestClient, site: str) -> None:
    answer = client.post("/v1/session", json={"token": LOCAL_TOKEN}, headers={"Sec-Fetch-Site": site})
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


def test_guessing_a_token_is_slowed_and_said_in_the_audit_log(tmp_path: Path) -> None:
    with _client(gateway(tmp_path, is_open=False, rates=Rates(FAST, FAST, SLOW))) as client:
        answers = [client.post("/v1/session", json={"token": f"guess {n}"}) for n in range(5)]
        assert [answer.status_code for answer in answers] == [401] * 3 + [429] * 2
        assert int(answers[-1].headers["retry-after"]) <= 1000
        assert client.post("/v1/session", json={"token": LOCAL_TOKEN}).status_code == 429
        assert client.get("/v1/me", headers=ADMIN).status_code == 200  # who is known goes on
        entries = client.get("/v1/audit", headers=ADMIN).json()["entries"]
        assert [entry["result"] for entry in entries] == ["401"] * 3


@pytest.mark.parametrize(
    ("rates", "what"),
    [(Rates(SLOW, FAST, FAST), "local user asks too often"), (Rates(FAST, SLOW, FAST), "this address asks too often")],
)
def test_who_asks_too_often_waits(tmp_path: Path, rates: Rates, what: str) -> None:
    parts = gateway(tmp_path, is_open=False, rates=rates)
    with _client(parts) as client:
        answers = [client.get("/v1/me", headers=ADMIN) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert what in answers[-1].json()["detail"]
        assert 900 <= int(answers[-1].headers["retry-after"]) <= 1000
        assert client.get("/healthz").status_code == 200


def test_replicas_count_rates_each_for_itself_so_a_limit_is_divided_by_their_number(tmp_path: Path) -> None:
    limit, replicas = 4, 2
    share = Rate(1e-3, burst=limit // replicas)
    statuses = []
    for _ in range(replicas):
        with _client(gateway(tmp_path, is_open=False, rates=Rates(share, FAST, FAST))) as client:
            statuses += [client.get("/v1/me", headers=ADMIN).status_code for _ in range(limit)]
    assert statuses.count(200) == limit


def test_answer_says_what_is_left_of_the_rate(client: TestClient) -> None:
    answer = client.get("/v1/me", headers=ADMIN)
    assert answer.headers["ratelimit-policy"] == '"credential";q=500;w=5'
    assert answer.headers["ratelimit"] == '"credential";r=499;t=0'


@pytest.mark.parametrize("path", ["/v1/me", "/v1/runs", "/healthz"])
def test_every_answer_carries_the_security_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
    assert "camera=()" in headers["permissions-policy"]
    assert "strict-transport-security" not in headers


def test_browsers_are_told_to_stay_with_tls(parts: Parts) -> None:
    with TestClient(parts.app, base_url="https://testserver") as client:
        assert client.get("/healthz").headers["strict-transport-security"] == "max-age=31536000"


def test_other_sites_read_nothing_unless_they_are_allowed(tmp_path: Path, client: TestClient) -> None:
    asked = {"Origin": "https://team.example", "Access-Control-Request-Method": "GET"}
    assert "access-control-allow-origin" not in client.options("/v1/runs", headers=asked).headers
    with _client(gateway(tmp_path / "b", is_open=False, cors_origins=["https://team.example"])) as allowing:
        preflight = allowing.options("/v1/runs", headers=asked)
        answer = allowing.get("/v1/me", headers={**ADMIN, "Origin": "https://team.example"})
        other = allowing.options("/v1/runs", headers={**asked, "Origin": "https://evil.example"})
    assert preflight.headers["access-control-allow-origin"] == "https://team.example"
    assert answer.headers["access-control-allow-origin"] == "https://team.example"
    assert "access-control-allow-credentials" not in answer.headers
    assert "access-control-allow-origin" not in other.headers


def test_a_change_that_the_audit_log_cannot_hold_is_not_answered_as_done(
    client: TestClient, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mendloop.core.errors import Retryable

    _publish(parts, "r1", events=3)

    def away(deed: object) -> None:
        raise Retryable("the database is away")

    monkeypatch.setattr(parts.access.entrance, "_record", away)
    answer = client.post("/v1/runs/r1/cancel", headers=ADMIN)
    assert (answer.status_code, "audit log" in answer.json()["detail"]) == (503, True)
