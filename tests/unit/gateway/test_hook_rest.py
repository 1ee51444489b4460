"""Webhooks over REST: the right status and document for each request, and nothing secret twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from fastapi.testclient import TestClient
from gateways import gateway

from mendloop.core.errors import InvalidRecipe, Permanent
from mendloop.gateway.adapters.hook_desk import Limits
from mendloop.gateway.adapters.hook_rows import Sealing
from mendloop.gateway.adapters.webhooks import WebhookOptions
from mendloop.gateway.domain.access import Scope
from mendloop.gateway.domain.hooks import Secret

NAMES = {"public.example": ["8.8.8.8"], "inner.example": ["10.0.0.7"], "mixed.example": ["8.8.8.8", "127.0.0.1"]}
URL = "https://public.example/hook"
KEY = Fernet.generate_key().decode()


async def resolve(host: str, port: int) -> list[str]:
    """The names of these tests; an address is itself."""
    if host in NAMES:
        return NAMES[host]
    if host.replace(".", "").isdigit() or ":" in host:
        return [host]
    raise OSError("no such name")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    yield from _client(tmp_path_factory.mktemp("hooks"), hook_count=100)


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[TestClient]:
    """A gateway of a test's own, with few places."""
    yield from _client(tmp_path, hook_count=3)


def _client(folder: Path, *, hook_count: int) -> Iterator[TestClient]:
    options = WebhookOptions(limits=Limits(hook_count=hook_count), resolve=resolve, keys=[KEY])
    parts = gateway(folder, webhooks=options)
    with TestClient(parts.app, raise_server_exceptions=False) as client:
        assert parts.feed.wait_current(timeout_s=10)
        yield client


def _create(client: TestClient, **fields: Any) -> dict[str, Any]:
    answer = client.post("/v1/webhooks", json={"url": URL, **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def test_created_webhook_shows_its_secret_once(empty: TestClient, tmp_path: Path) -> None:
    client = empty
    made = _create(client, description="alerts", filter={"types": ["EvalFailed"], "slices": ["verb=jump"]})
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    shown = client.get(f"/v1/webhooks/{made['webhook_id']}").json()
    assert shown == made
    assert shown["state"] == "delivering"
    assert shown["filter"] == {"runs": [], "types": ["EvalFailed"], "causes": [], "slices": ["verb=jump"]}
    assert client.get("/v1/webhooks").json() == {"webhooks": [made], "next_cursor": ""}
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("gateway.db*"))
    assert secret.removeprefix("whsec_").encode() not in stored


def test_repeated_creation_with_a_key_is_one_webhook_and_gives_its_secret_again(client: TestClient) -> None:
    body, headers = {"url": URL, "description": "alerts"}, {"Idempotency-Key": "k1"}
    first, again = (client.post("/v1/webhooks", json=body, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert again.headers["Location"] == first.headers["Location"]
    path = again.headers["Location"]
    turned = client.post(f"{path}/rotate-secret").json()
    client.patch(path, json={"description": "changed meanwhile"})
    late = client.post("/v1/webhooks", json={**body, "format": "event"}, headers=headers)  # a default, written out
    assert (late.status_code, late.json()["secret"]) == (200, turned["secret"])
    assert late.json()["description"] == "changed meanwhile"


def test_key_of_another_creation_is_refused_and_says_which(client: TestClient) -> None:
    headers = {"Idempotency-Key": "k2"}
    made = client.post("/v1/webhooks", json={"url": URL}, headers=headers).json()
    answer = client.post("/v1/webhooks", json={"url": URL, "format": "slack"}, headers=headers)
    assert answer.status_code == 422
    assert made["webhook_id"] in answer.json()["detail"]
    assert client.post("/v1/webhooks", json={"url": URL}, headers={"Idempotency-Key": "k3"}).status_code == 201
    assert client.post("/v1/webhooks", json={"url": URL}, headers={"Idempotency-Key": "k" * 256}).status_code == 400
    client.delete(f"/v1/webhooks/{made['webhook_id']}")
    anew = client.post("/v1/webhooks", json={"url": URL}, headers=headers)
    assert (anew.status_code, anew.json()["secret"] != made["secret"]) == (201, True)


def test_keys_of_two_callers_are_two_keys(tmp_path: Path) -> None:
    parts = gateway(tmp_path, webhooks=WebhookOptions(resolve=resolve, keys=[KEY]))
    tokens = [parts.access.key_store.create(name, scope=Scope.ADMIN, by="test")[1] for name in ("a", "b")]
    with TestClient(parts.app) as client:
        assert parts.feed.wait_current(timeout_s=10)
        ids = {
            client.post(
                "/v1/webhooks", json={"url": URL}, headers={"Authorization": f"Bearer {token}", "Idempotency-Key": "k"}
            ).json()["webhook_id"]
            for token in tokens
        }
    assert len(ids) == 2


def test_list_comes_in_pages_and_has_an_end(empty: TestClient) -> None:
    client = empty
    made = {_create(client)["webhook_id"] for _ in range(3)}
    first = client.get("/v1/webhooks", params={"limit": 2}).json()
    rest = client.get("/v1/webhooks", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert {hook["webhook_id"] for hook in first["webhooks"] + rest["webhooks"]} == made
    assert rest["next_cursor"] == ""
    assert client.post("/v1/webhooks", json={"url": URL}).status_code == 409


@pytest.mark.parametrize(
    "url",
    [
        "http://public.example/",
        "ftp://public.example/",
        "https://",
        "https://u:p@public.example/",
        "nonsense",
        "https://public.example/#x",
        "https://public.example:0/",
        "https://public.example:99999/",
        "https://a b/",
        "https://inner.example/",
        "https://mixed.example/",
        "https://unknown.example/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://169.254.169.254/latest/meta-data",
        "https://ümlaut/",
    ],
)
def test_url_that_may_not_be_reached_is_refused_and_nothing_is_leaked(client: TestClient, url: str) -> None:
    answer = client.post("/v1/webhooks", json={"url": url})
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["faults"][0]["field"] == "url"
    assert "10.0.0.7" not in answer.text
    hook_id = _create(client)["webhook_id"]
    assert client.patch(f"/v1/webhooks/{hook_id}", json={"url": url}).status_code == 422


@pytest.mark.parametrize(
    "fields",
    [
        {"filter": {"types": ["Nonsense"]}},
        {"filter": {"causes": ["BAD_LUCK"]}},
        {"format": "xml"},
        {"more": 1},
        {"filter": {"runs": ["r"] * 101}},
        {"description": "d" * 501},
        {"url": None},
    ],
)
def test_wrong_field_is_named(client: TestClient, fields: dict[str, Any]) -> None:
    answer = client.post("/v1/webhooks", json={"url": URL, **fields})
    assert answer.status_code == 422
    assert answer.json()["faults"][0]["field"].startswith(next(iter(fields)))


def test_update_changes_what_is_given(client: TestClient) -> None:
    made = _create(client, description="old")
    path = f"/v1/webhooks/{made['webhook_id']}"
    changed = client.patch(path, json={"format": "slack"}).json()
    assert (changed["format"], changed["description"], changed["cursor"]) == ("slack", "old", made["cursor"])


def test_disabled_webhook_is_enabled_again(client: TestClient) -> None:
    path = f"/v1/webhooks/{_create(client)['webhook_id']}"
    off = client.post(f"{path}/disable", json={"reason": "a migration"}).json()
    assert (off["state"], off["disabled_reason"]) == ("disabled", "a migration")
    assert client.post(f"{path}/enable").json()["state"] == "delivering"


def test_rotation_gives_a_new_secret_and_lets_the_old_one_expire(client: TestClient) -> None:
    made = _create(client)
    path = f"/v1/webhooks/{made['webhook_id']}"
    turned = client.post(f"{path}/rotate-secret", json={"overlap_s": 60}).json()
    assert turned["secret"] != made["secret"]
    assert turned["secret_expiries"][0] is None
    assert turned["secret_expiries"][1] is not None
    assert "secret" not in client.get(path).json()
    assert client.post(f"{path}/rotate-secret", json={"overlap_s": -1}).status_code == 422


def test_replay_takes_a_time_or_a_cursor_and_nothing_else(client: TestClient) -> None:
    made = _create(client)
    path = f"/v1/webhooks/{made['webhook_id']}/replay"
    assert client.post(path, json={"from": "2026-01-02T03:04:05Z"}).status_code == 202
    assert client.post(path, json={"from": made["cursor"]}).status_code == 202
    assert client.post(path, json={"from": "yesterday"}).json()["faults"][0]["field"] == "from"


def test_unknown_webhook_is_not_found(client: TestClient) -> None:
    path = "/v1/webhooks/wh_none"
    answers = [client.get(path), client.delete(path), client.patch(path, json={}), client.get(f"{path}/deliveries")]
    answers += [client.post(f"{path}/{verb}") for verb in ("enable", "disable", "rotate-secret", "test")]
    answers += [client.post(f"{path}/replay", json={"from": "2026-01-01"})]
    assert {answer.status_code for answer in answers} == {404}


def test_deleted_webhook_is_gone(client: TestClient) -> None:
    path = f"/v1/webhooks/{_create(client)['webhook_id']}"
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 404


def test_keys_can_be_changed_and_a_lost_one_is_said() -> None:
    secrets, new = [Secret("whsec_a"), Secret("whsec_b", 5.0)], Fernet.generate_key().decode()
    sealed = Sealing([KEY]).seal(secrets)
    assert Sealing([new, KEY]).open(sealed) == tuple(secrets)
    assert Sealing([KEY]).open(Sealing().seal(secrets)) == tuple(secrets)
    for keys in ([], [new]):
        with pytest.raises(Permanent, match="MENDLOOP_WEBHOOK_KEYS"):
            Sealing(keys).open(sealed)
    with pytest.raises(InvalidRecipe, match="Fernet"):
        Sealing(["short"])
