"""What an answer changes, which addresses are reached, and signatures as the standard's own library reads them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from mendloop.gateway.domain.addresses import may_reach, networks_of
from mendloop.gateway.domain.hooks import (
    LONGEST_WAIT_S,
    REFUSED_LIMIT,
    Answer,
    Progress,
    Secret,
    after,
    enabled_again,
    judge,
    rewound,
    wait_s,
)
from mendloop.gateway.domain.signing import rotated, secret_text, signing_headers

DAY_S = 86_400.0
START = Progress("c0")


def _after(progress: Progress, status: int, *, now: float = 0.0, retry_after_s: float | None = None) -> Progress:
    answer = Answer(status, 0.1, "" if 200 <= status < 300 else f"status {status}", retry_after_s)
    return after(progress, answer, cursor="c1", now=now, spread=0.5, retry_for_s=DAY_S)


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (200, "delivered"),
        (204, "delivered"),
        (301, "refused"),
        (400, "refused"),
        (401, "refused"),
        (404, "refused"),
        *((status, "retry") for status in (0, 408, 425, 429, 500, 502, 503, 599)),
        (410, "gone"),
    ],
)
def test_status_decides(status: int, result: str) -> None:
    assert judge(Answer(status, 0.0)) == result


def test_delivered_event_is_done_with() -> None:
    tried = _after(_after(START, 500), 200, now=5.0)
    assert (tried.cursor, tried.attempt, tried.failing_since, tried.delivered_count) == ("c1", 0, None, 1)
    assert (tried.failed_count, tried.last_delivered_at, tried.last_error) == (1, 5.0, "")


def test_failed_event_stays_the_next_and_is_tried_later_and_later() -> None:
    progress, now, waits = START, 0.0, []
    for _ in range(5):
        progress = _after(progress, 503, now=now)
        waits.append(progress.next_attempt_at - now)
        now = progress.next_attempt_at
    assert progress.cursor == "c0"
    assert waits == [1, 2, 4, 8, 16]


def test_hook_is_disabled_after_a_day_of_failures_and_goes_on_with_the_same_event() -> None:
    progress, now, tries = START, 0.0, 0
    while progress.is_enabled:
        progress = _after(progress, 503, now=now)
        now, tries = max(now, progress.next_attempt_at), tries + 1
    assert now == DAY_S
    assert 30 < tries < 50
    assert "failed" in progress.disabled_reason
    again = enabled_again(progress)
    assert (again.cursor, again.is_enabled, again.attempt, again.next_attempt_at) == ("c0", True, 0, 0.0)


def test_retry_after_is_honoured_up_to_the_end_of_the_day() -> None:
    assert _after(START, 429, now=10.0, retry_after_s=600.0).next_attempt_at == 610.0
    assert _after(START, 429, now=10.0, retry_after_s=1e9).next_attempt_at == 10.0 + DAY_S


def test_gone_disables_at_once_and_enabled_again_it_goes_on_with_the_same_event() -> None:
    gone = _after(START, 410)
    assert (gone.is_enabled, gone.cursor, gone.failed_count) == (False, "c0", 1)
    assert enabled_again(gone).cursor == "c0"


def test_refused_event_is_given_up_and_many_in_a_row_disable() -> None:
    progress = START
    for n in range(REFUSED_LIMIT):
        assert progress.is_enabled
        progress = _after(progress, 400)
        assert (progress.cursor, progress.refused_count) == ("c1", n + 1)
    assert not progress.is_enabled
    assert _after(replace(progress, is_enabled=True), 200).refused_count == 0


def test_replay_forgets_the_failures_of_the_event_at_work() -> None:
    again = rewound(_after(START, 500), cursor="c9", not_before="2026-01-01T00:00:00+00:00")
    assert (again.cursor, again.attempt, again.next_attempt_at) == ("c9", 0, 0.0)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_waits_grow_and_are_bounded(attempt: int, spread: float) -> None:
    assert 0.5 <= wait_s(attempt, spread=spread) <= 1.5 * LONGEST_WAIT_S
    assert wait_s(attempt, spread=spread) <= wait_s(attempt + 1, spread=spread)


def test_standard_library_accepts_the_signature_and_refuses_another_body() -> None:
    secret, now = secret_text(bytes(range(32))), datetime.now(UTC).timestamp()
    body = json.dumps({"message": "ümlaut"}, ensure_ascii=False).encode()
    headers = signing_headers([Secret(secret)], event_id="e1", timestamp=int(now), body=body, now=now)
    assert Webhook(secret).verify(body, headers) == {"message": "ümlaut"}
    assert headers["webhook-signature"] == Webhook(secret).sign("e1", datetime.fromtimestamp(int(now)), body.decode())
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body + b" ", headers)


def test_both_secrets_sign_during_the_overlap_and_one_after_it() -> None:
    old, new = secret_text(b"o" * 32), secret_text(b"n" * 32)
    now = datetime.now(UTC).timestamp()
    both = rotated([Secret(old)], fresh=new, now=now, overlap_s=60)
    during = signing_headers(both, event_id="e", timestamp=int(now), body=b"{}", now=now + 59)
    after_it = signing_headers(both, event_id="e", timestamp=int(now), body=b"{}", now=now + 61)
    for secret in (old, new):
        Webhook(secret).verify(b"{}", during)
    Webhook(new).verify(b"{}", after_it)
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(b"{}", after_it)
    assert rotated([Secret(old)], fresh=new, now=now, overlap_s=0) == (Secret(new),)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.5.5",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.100.100.200",
        "0.0.0.0",
        "224.0.0.1",
        "239.1.1.1",
        "255.255.255.255",
        "240.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "168.63.129.16",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "ff0e::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:a9fe:a9fe",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001:0:1::1",
        "fec0::1",
    ],
)
def test_inner_address_is_not_reached(address: str) -> None:
    assert not may_reach(address, allowed=())


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "192.0.1.1"]
)
def test_public_address_is_reached(address: str) -> None:
    assert may_reach(address, allowed=())


def test_configuration_allows_a_network_and_nothing_beside_it() -> None:
    allowed = networks_of(["10.1.0.0/16", "::1/128"])
    assert may_reach("10.1.2.3", allowed=allowed)
    assert may_reach("::ffff:10.1.2.3", allowed=allowed)
    assert may_reach("::1", allowed=allowed)
    assert not may_reach("10.2.0.1", allowed=allowed)
    with pytest.raises(ValueError, match="nonsense"):
        networks_of(["nonsense"])
