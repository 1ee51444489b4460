"""Webhooks over real sockets: order, retries, isolation, restarts, crashes, two replicas, and addresses that move."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from gateways import Parts, gateway
from receivers import OK, Post, Receiver, Reply, receiving
from run_events import data_run, failed, sent
from standardwebhooks.webhooks import Webhook
from waiting import wait_until

from mendloop.core.events import Envelope
from mendloop.core.wire import slice_message
from mendloop.gateway.adapters import hook_courier
from mendloop.gateway.adapters.hook_desk import Limits
from mendloop.gateway.adapters.hook_journal import Journal
from mendloop.gateway.adapters.hook_round import Rules
from mendloop.gateway.adapters.webhooks import WebhookOptions
from mendloop.gateway.domain import hooks as rules
from mendloop.gateway.domain.addresses import networks_of

LOCAL = networks_of(["127.0.0.0/8", "::1/128"])
GO_ON_FAST = 0.05


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "FIRST_WAIT_S", GO_ON_FAST)
    monkeypatch.setattr(hook_courier, "RENEW_S", 0.2)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@dataclass(frozen=True, slots=True)
class Served:
    """A gateway that serves."""

    parts: Parts
    client: TestClient

    def hook(self, url: str, **fields: Any) -> dict[str, Any]:
        """A new webhook."""
        answer = self.client.post("/v1/webhooks", json={"url": url, **fields})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def get(self, hook: dict[str, Any], rest: str = "") -> Any:
        """The webhook, or what is under it."""
        return self.client.get(f"/v1/webhooks/{hook['webhook_id']}{rest}").json()

    def post(self, hook: dict[str, Any], verb: str, **body: Any) -> Any:
        """A change."""
        answer = self.client.post(f"/v1/webhooks/{hook['webhook_id']}/{verb}", json=body or None)
        assert answer.status_code < 300, answer.text
        return answer.json()


@contextmanager
def serving(folder: Path, **options: Any) -> Iterator[Served]:
    """A gateway of the folder that may call 127.0.0.1 over http."""
    defaults: dict[str, Any] = {"allowed_networks": LOCAL, "limits": Limits(allows_http=True), "timeout_s": 2.0}
    parts = gateway(folder, webhooks=WebhookOptions(**{**defaults, **options}))
    with TestClient(parts.app, raise_server_exceptions=False) as client:
        assert parts.feed.wait_current(timeout_s=10)
        yield Served(parts, client)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path) as served:
        yield served


def one_event(event_id: str) -> Envelope:
    """An EvalFailed of a run."""
    return sent(failed("r1", slice_message([("verb", "jump")])), event_id=event_id)


def failing_times(count: int, *, status: int = 503, headers: dict[str, str] | None = None) -> Any:
    """An answer that fails so often and then is fine."""
    lock, left = threading.Lock(), [count]

    def answer(post: Post) -> Reply:
        with lock:
            left[0] -= 1
            return (status, headers or {}) if left[0] >= 0 else OK

    return answer


def test_receiver_gets_the_streams_document_signed_and_in_order(served: Served, receiver: Receiver) -> None:
    hook = served.hook(receiver.url)
    served.parts.bus.publish(data_run("r1"))
    wait_until(lambda: len(receiver.posts) == 19)
    assert receiver.ids() == [f"r1/{n}" for n in range(19)]
    for post in receiver.posts:
        Webhook(hook["secret"]).verify(post.body, dict(post.headers))
    streamed = served.client.get("/v1/runs/r1/events").json()["events"]
    assert [post.document for post in receiver.posts] == [
        {"headers": event["headers"], "message": event["message"]} for event in streamed
    ]


def test_filter_chooses_and_the_place_moves_past_the_rest(served: Served, receiver: Receiver) -> None:
    hook = served.hook(receiver.url, filter={"types": ["EvalFailed"], "slices": ["turn=right"]})
    served.parts.bus.publish(data_run("r1"))
    wait_until(lambda: served.get(hook)["cursor"] == served.parts.feed.end()[1] != hook["cursor"])
    assert receiver.ids() == ["r1/6"]


def test_slack_text_names_slice_accuracy_cause_and_run(tmp_path: Path, receiver: Receiver) -> None:
    with serving(tmp_path, rules=Rules(public_url="https://mend.example/")) as served:
        served.hook(receiver.url, format="slack", filter={"types": ["EvalFailed", "DiagnosisReady"]})
        served.parts.bus.publish(data_run("r<1"))
        wait_until(lambda: len(receiver.posts) == 4)
    weak, _, verdict, _ = (post.document["text"] for post in receiver.posts)
    link = "<https://mend.example/runs/r%3C1|r&lt;1>"
    assert weak == f"*EvalFailed* in run {link}: verb=jump: 0/20 right [0.000, 0.168], weak below 0.8"
    assert f"in run {link}: verb=jump: 0/20 right" in verdict
    assert "DATA_MISSING (confidence 0.90): the corpus has none of it" in verdict


def test_failed_event_is_tried_again_and_holds_back_the_next(served: Served, receiver: Receiver) -> None:
    receiver.answer = failing_times(3)
    hook = served.hook(receiver.url)
    served.parts.bus.publish([one_event("e1"), one_event("e2")])
    wait_until(lambda: len(receiver.posts) == 5)
    assert receiver.ids() == ["e1"] * 4 + ["e2"]
    log = wait_until(lambda: len(found := served.get(hook, "/deliveries")["deliveries"]) == 5 and found)
    assert [(row["event_id"], row["attempt"], row["result"]) for row in reversed(log)] == [
        ("e1", 1, "retry"), ("e1", 2, "retry"), ("e1", 3, "retry"), ("e1", 4, "delivered"), ("e2", 1, "delivered")
    ]  # fmt: skip
    page = served.get(hook, "/deliveries?limit=3")
    rest = served.get(hook, f"/deliveries?limit=3&cursor={page['next_cursor']}")
    assert page["deliveries"] + rest["deliveries"] == log
    assert (served.get(hook)["delivered_count"], served.get(hook)["failed_count"]) == (2, 3)


def test_event_whose_id_no_header_can_carry_holds_nothing_back(served: Served, receiver: Receiver) -> None:
    served.hook(receiver.url)
    served.parts.bus.publish([one_event("a\r\nx-evil: 1"), one_event("ü"), one_event("e3")])
    wait_until(lambda: len(receiver.posts) == 3)
    assert [len(event_id) for event_id in receiver.ids()] == [64, 64, 2]
    assert all("x-evil" not in post.headers for post in receiver.posts)


def test_retry_after_is_waited_for(served: Served, receiver: Receiver) -> None:
    receiver.answer = failing_times(1, status=429, headers={"Retry-After": "3600"})
    hook = served.hook(receiver.url)
    served.parts.bus.publish([one_event("e1")])
    shown = wait_until(lambda: (now := served.get(hook))["state"] == "failing" and now)
    assert shown["next_attempt_at"] > shown["failing_since"]
    assert len(receiver.posts) == 1
    served.post(hook, "enable")  # a person need not wait
    wait_until(lambda: receiver.ids() == ["e1", "e1"])


def test_gone_receiver_is_disabled_at_once_with_an_alert(
    served: Served, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answer = lambda post: (410, {})
    hook = served.hook(receiver.url)
    with caplog.at_level(logging.ERROR):
        served.parts.bus.publish([one_event("e1"), one_event("e2")])
        wait_until(lambda: served.get(hook)["state"] == "disabled")
    assert receiver.ids() == ["e1"]
    assert "webhook disabled" in caplog.messages
    assert receiver.url not in caplog.text
    metrics = wait_until(lambda: (t := served.client.get("/metrics").text) and 'state="disabled"} 1.0' in t and t)
    assert 'mendloop_webhooks_disabled_total{reason="gone",service="gateway"} 1.0' in metrics


def test_hook_that_fails_too_long_is_disabled_and_loses_nothing(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answer = lambda post: (500, {})
    with serving(tmp_path, rules=Rules(retry_for_s=0.3)) as served:
        hook = served.hook(receiver.url)
        served.parts.bus.publish([one_event("e1"), one_event("e2")])
        shown = wait_until(lambda: (now := served.get(hook))["state"] == "disabled" and now)
        assert "status 500" in shown["disabled_reason"]
        assert set(receiver.ids()) == {"e1"}
        receiver.answer = lambda post: OK
        receiver.posts.clear()
        served.post(hook, "enable")
        wait_until(lambda: receiver.ids() == ["e1", "e2"])


def test_dead_and_slow_receivers_hold_up_nobody_else(served: Served, receiver: Receiver) -> None:
    release = threading.Event()
    with receiving() as slow:
        slow.answer = lambda post: (release.wait(90), OK)[1]
        hooks = [served.hook(slow.url) for _ in range(10)]
        dead = [served.hook("http://127.0.0.1:9/") for _ in range(10)]
        served.hook(receiver.url)
        served.parts.bus.publish(data_run("r1"))
        wait_until(lambda: len(receiver.posts) == 19, deadline_s=60)
        assert not release.is_set()
        assert wait_until(lambda: [served.get(hook)["last_error"] for hook in dead][-1])
        release.set()
        wait_until(lambda: set(slow.ids()) == {f"r1/{n}" for n in range(19)}, deadline_s=40)
    assert len(hooks) == 10


def test_restart_loses_and_doubles_nothing(tmp_path: Path, receiver: Receiver) -> None:
    with serving(tmp_path) as served:
        served.hook(receiver.url)
        served.parts.bus.publish(data_run("r1"))
        wait_until(lambda: len(receiver.posts) >= 5)
    served.parts.bus.publish(data_run("r2"))
    with serving(tmp_path) as again:
        again.parts.bus.publish(data_run("r3"))
        wait_until(lambda: len(receiver.posts) >= 57)
    assert receiver.ids() == [f"r{n}/{i}" for n in (1, 2, 3) for i in range(19)]


def test_crash_before_the_place_is_written_gives_the_same_id_again(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(self: Journal) -> bool:
        return not self._attempts

    monkeypatch.setattr(hook_courier, "MARGIN_S", 0.0)
    monkeypatch.setattr(hook_courier, "LEASE_S", 1.0)  # the lease of the one that crashed ends by itself
    with monkeypatch.context() as broken:
        broken.setattr(Journal, "flush", never)
        with serving(tmp_path) as served:
            served.hook(receiver.url)
            served.parts.bus.publish([one_event("e1")])
            wait_until(lambda: receiver.ids() == ["e1"])
    with serving(tmp_path) as served:
        served.parts.bus.publish([one_event("e2")])
        wait_until(lambda: receiver.ids() == ["e1", "e1", "e2"], deadline_s=40)


def test_two_replicas_deliver_once_and_the_other_takes_over(tmp_path: Path, receiver: Receiver) -> None:
    with serving(tmp_path, owner="a") as first:
        hooks = [first.hook(receiver.url) for _ in range(3)]
        with serving(tmp_path, owner="b") as second:
            second.parts.bus.publish(data_run("r1"))
            wait_until(lambda: len(receiver.posts) == 57)
            wait_until(lambda: all(first.get(hook)["delivered_count"] == 19 for hook in hooks))
            second.post(hooks[0], "disable")
            second.parts.bus.publish([one_event("e1")])
            # Who holds the disabled hook may learn of it later than of the event: then it delivers once more.
            wait_until(lambda: receiver.ids().count("e1") >= 2)
    with serving(tmp_path, owner="c") as third:
        third.post(hooks[0], "enable")
        wait_until(lambda: receiver.ids().count("e1") == 3)
    assert len(receiver.posts) == 60


def test_replay_from_a_time_sends_what_is_not_older_with_the_same_ids(served: Served, receiver: Receiver) -> None:
    hook = served.hook(receiver.url)
    served.parts.bus.publish(data_run("r1"))
    wait_until(lambda: len(receiver.posts) == 19)
    receiver.posts.clear()
    served.post(hook, "replay", **{"from": "2026-01-02T03:04:15Z"})  # ten seconds after the first
    wait_until(lambda: len(receiver.posts) == 9)
    served.parts.bus.publish([one_event("old")])  # its time is older, and it is committed now
    wait_until(lambda: len(receiver.posts) == 10)
    assert receiver.ids() == [*(f"r1/{n}" for n in range(10, 19)), "old"]


def test_replay_from_a_cursor_begins_behind_it(served: Served, receiver: Receiver) -> None:
    hook = served.hook(receiver.url)
    served.parts.bus.publish(data_run("r1"))
    wait_until(lambda: len(receiver.posts) == 19)
    page = served.client.get("/v1/runs/r1/events").json()["events"]
    receiver.posts.clear()
    served.post(hook, "replay", **{"from": page[16]["cursor"]})
    wait_until(lambda: receiver.ids() == ["r1/17", "r1/18"])


def test_both_secrets_sign_after_a_rotation(served: Served, receiver: Receiver) -> None:
    hook = served.hook(receiver.url)
    turned = served.post(hook, "rotate-secret")
    served.parts.bus.publish([one_event("e1")])
    wait_until(lambda: receiver.posts)
    for secret in (hook["secret"], turned["secret"]):
        Webhook(secret).verify(receiver.posts[0].body, dict(receiver.posts[0].headers))


def test_test_event_says_what_came_of_it(served: Served, receiver: Receiver) -> None:
    hook = served.hook(receiver.url)
    assert served.post(hook, "test")["result"] == "delivered"
    assert receiver.posts[0].document["headers"]["ce_type"] == "mendloop.webhook.test"
    receiver.answer = lambda post: (500, {})
    assert (served.post(hook, "test")["result"], served.get(hook)["state"]) == ("retry", "delivering")
    assert [row["is_test"] for row in served.get(hook, "/deliveries")["deliveries"]] == [True, True]


def test_redirect_is_not_followed(served: Served, receiver: Receiver) -> None:
    with receiving() as inner:
        receiver.answer = lambda post: (307, {"Location": inner.url})
        answer = served.post(served.hook(receiver.url), "test")
        assert (answer["result"], answer["status"]) == ("refused", 307)
        assert inner.posts == []


def test_name_that_moves_to_an_inner_address_after_the_check_is_not_reached(tmp_path: Path, receiver: Receiver) -> None:
    answers = [["8.8.8.8"], ["127.0.0.1"], ["8.8.8.8", "127.0.0.1"]]

    async def moving(host: str, port: int) -> Sequence[str]:
        return answers.pop(0)

    url = receiver.url.replace("127.0.0.1", "moving.example")
    with serving(tmp_path, allowed_networks=(), resolve=moving) as served:
        hook = served.hook(url)
        results = [served.post(hook, "test") for _ in range(2)]
    assert [result["status"] for result in results] == [0, 0]
    assert all("not public" in result["detail"] for result in results)
    assert receiver.posts == []


def test_connection_goes_to_the_address_that_was_checked(tmp_path: Path, receiver: Receiver) -> None:
    async def ours(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    with serving(tmp_path, resolve=ours) as served:
        hook = served.hook(receiver.url.replace("127.0.0.1", "no-such-name.invalid"))
        assert served.post(hook, "test")["result"] == "delivered"
    assert receiver.posts[0].headers["host"].startswith("no-such-name.invalid:")


def test_log_of_a_hook_is_bounded(served: Served, receiver: Receiver) -> None:
    served.parts.app.state.webhooks.store._keep_attempts = 5
    hook = served.hook(receiver.url)
    served.parts.bus.publish(data_run("r1"))
    wait_until(lambda: served.get(hook)["delivered_count"] == 19)
    assert len(served.get(hook, "/deliveries")["deliveries"]) <= 5
