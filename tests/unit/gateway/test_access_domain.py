"""Scopes, run limits, keys, rules and token buckets: what they allow, without web or database."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendloop.gateway.domain.access import LOCAL, Principal, RunLimits, Scope
from mendloop.gateway.domain.access_rules import RULES, SHUT, Sight, rule_for
from mendloop.gateway.domain.keys import Key, Secret, digest, is_known, split_token, token_of
from mendloop.gateway.domain.rates import Buckets, Rate
from mendloop.gateway.domain.refusals import Invalid, NotAllowed, NotSignedIn

SECRET = "5f" * 32


def _key(**changes: object) -> Key:
    values: dict[str, object] = {
        "key_id": "k1",
        "name": "ci",
        "scope": Scope.RUN,
        "limits": None,
        "created_at": 0.0,
        "created_by": "ada",
        "expires_at": 100.0,
    }
    return Key(**(values | changes))  # type: ignore[arg-type]


def test_scope_holds_all_below_it() -> None:
    assert Scope.APPROVE.words == ["read", "run", "approve"]
    Principal("ci", Scope.APPROVE).check(Scope.RUN)
    with pytest.raises(NotAllowed, match="needs the scope admin"):
        Principal("ci", Scope.APPROVE).check(Scope.ADMIN)


def test_unknown_scope_names_the_known_ones() -> None:
    with pytest.raises(Invalid, match="read, run, approve, admin"):
        Scope.of("root")


@pytest.mark.parametrize(
    ("limits", "run_id", "started_by", "is_seen"),
    [
        (None, "any", "", True),
        (RunLimits(own=True), "r1", "ci (key k1)", True),
        (RunLimits(own=True), "r1", "ci", False),
        (RunLimits(own=True), "r1", "", False),
        (RunLimits(own=False, patterns=("team-a-*",)), "team-a-7", "", True),
        (RunLimits(own=False, patterns=("team-a-*",)), "team-b-7", "ci (key k1)", False),
        (RunLimits(own=False, patterns=("*",)), "", "", False),
    ],
)
def test_run_exists_for_whom_it_may(limits: RunLimits | None, run_id: str, started_by: str, is_seen: bool) -> None:
    asker = Principal("ci (key k1)", Scope.READ, limits, "key:k1")
    assert asker.may_see(run_id, started_by=started_by) is is_seen


def test_key_of_one_team_starts_only_runs_that_it_may_see() -> None:
    asker = Principal("ci (key k1)", Scope.RUN, RunLimits(own=False, patterns=("team-a-*",)), "key:k1")
    asker.check_start("team-a-1")
    with pytest.raises(NotAllowed, match="team-a-"):
        asker.check_start("team-b-1")


def test_only_the_person_at_this_machine_may_say_who_decides() -> None:
    assert LOCAL.acts_as("ada") == "ada"
    assert Principal("ci (key k1)", Scope.RUN, None, "key:k1").acts_as("ada") == "ci (key k1)"


@pytest.mark.parametrize("pattern", ["", "[a-z]", "a/b", "x" * 101])
def test_odd_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(Invalid):
        RunLimits(own=False, patterns=(pattern,))


def test_admin_key_cannot_be_limited() -> None:
    with pytest.raises(Invalid, match="admin key"):
        _key(scope=Scope.ADMIN, limits=RunLimits(own=True))


@pytest.mark.parametrize(("changes", "state"), [({}, "expired"), ({"expires_at": None, "revoked_at": 5.0}, "revoked")])
def test_key_that_is_over_names_nobody(changes: dict[str, object], state: str) -> None:
    with pytest.raises(NotSignedIn, match=state):
        _key(**changes).principal(now=100.0)


def test_old_secret_ends_with_its_overlap() -> None:
    known = [Secret(digest(SECRET), expires_at=10.0), Secret(digest("a7" * 32))]
    assert is_known(SECRET, known, now=9.9)
    assert not is_known(SECRET, known, now=10.0)
    assert is_known("a7" * 32, known, now=10.0)


@pytest.mark.parametrize(
    "text", ["", "mend_k1_", "mend_k1_5f", f"mend_K1_{SECRET}", f"mend_k1_{SECRET} ", f"x_k1_{SECRET}"]
)
def test_other_text_is_no_token(text: str) -> None:
    assert split_token(token_of("k1", SECRET)) == ("k1", SECRET)
    assert split_token(text) is None


@pytest.mark.parametrize(
    ("method", "path", "scope", "sight"),
    [
        ("GET", "/healthz", None, Sight.NONE),
        ("GET", "/runs/r1/slices", None, Sight.NONE),
        ("GET", "/v1/runs", Scope.READ, Sight.FILTERED),
        ("GET", "/v1/runs/r1/outcomes", Scope.READ, Sight.RUN),
        ("POST", "/v1/runs", Scope.RUN, Sight.FILTERED),
        ("POST", "/v1/runs/r1/approval", Scope.APPROVE, Sight.RUN),
        ("POST", "/v1/dead-letters/d1/replay", Scope.APPROVE, Sight.NONE),
        ("GET", "/v1/keys", Scope.ADMIN, Sight.NONE),
        ("DELETE", "/v1/keys/k1", Scope.ADMIN, Sight.NONE),
        ("GET", "/v1/keysmith", Scope.READ, Sight.NONE),
    ],
)
def test_request_needs_its_scope(method: str, path: str, scope: Scope | None, sight: Sight) -> None:
    rule = rule_for(method, path)
    assert (rule.scope, rule.sight) == (scope, sight)


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/new-thing"), ("PUT", "/v1/runs/r1"), ("GET", "/docs")])
def test_request_without_a_rule_needs_admin(method: str, path: str) -> None:
    assert rule_for(method, path) is SHUT
    assert SHUT.scope is Scope.ADMIN


def test_rule_of_one_run_names_it() -> None:
    assert rule_for("GET", "/v1/runs/team-a-1/events").run_in("/v1/runs/team-a-1/events") == "team-a-1"
    assert all(rule.path.startswith("/v1/runs/*") for rule in RULES if rule.sight is Sight.RUN)


def test_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    buckets = Buckets(Rate(2, burst=3))
    answers = [buckets.take("a", now=0.0) for _ in range(4)]
    assert [one.is_allowed for one in answers] == [True, True, True, False]
    assert answers[-1].wait_s == pytest.approx(0.5)
    assert not buckets.take("a", now=0.49).is_allowed
    assert buckets.take("a", now=0.51).is_allowed
    assert buckets.take("b", now=0.0).remaining == 2


@given(st.lists(st.floats(0, 2), min_size=1, max_size=60), st.integers(1, 10), st.floats(0.5, 20))
def test_bucket_never_lets_more_through_than_burst_and_rate(gaps: list[float], burst: int, per_s: float) -> None:
    buckets, now, passed = Buckets(Rate(per_s, burst=burst)), 0.0, 0
    for gap in gaps:
        now += gap
        passed += buckets.take("a", now=now).is_allowed
    assert passed <= burst + per_s * now + 1e-6


def test_bucket_forgets_whom_it_did_not_see_for_longest() -> None:
    buckets = Buckets(Rate(0.001, burst=1), keep=2)
    for name in ("a", "b", "c"):
        buckets.take(name, now=0.0)
    assert buckets.take("a", now=0.0).is_allowed
    assert not buckets.take("c", now=0.0).is_allowed
