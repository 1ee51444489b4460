"""Kafka with TLS, passwords and ACLs: the bus works with the rights that docs/deploy.md lists, and says what lacks."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import authority
from kafka_broker import require_java
from secured_kafka import STRANGER, Secured, secured_broker
from waiting import wait_until

from mendloop.bus.kafka import KafkaBus
from mendloop.bus.kafka_topics import lay_out, missing_topics
from mendloop.bus.topics import TopicPlan
from mendloop.core.errors import Permanent, Retryable
from mendloop.core.events import Envelope

pytestmark = [pytest.mark.integration, pytest.mark.slow]
PREFIX = "team-a."
QUICK = {"bootstrap_timeout_ms": "3000", "max_block_ms": "5000"}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A broker that lets nobody do what no ACL allows."""
    require_java()
    with secured_broker(tmp_path_factory.mktemp("secured"), prefix=PREFIX) as broker:
        yield broker


def own_prefix() -> dict[str, str]:
    return {"name_prefix": f"{PREFIX}{secrets.token_hex(4)}.", "partition_count": "2"}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_an_event_goes_all_the_way_with_the_rights_that_the_docs_list(secured: Secured, mechanism: str) -> None:
    options = {**secured.options(mechanism=mechanism), **own_prefix()}
    with contextlib.closing(KafkaBus(secured.bootstrap, options=options)) as bus:
        bus.ensure_topics(["in", "out"])
        bus.publish([Envelope("in", "k", b"event")])
        assert bus.lag("g", ["in"]) == 1
        with contextlib.closing(bus.consumer("g", ["in"], member="m")) as member:
            taken = wait_until(lambda: member.poll(timeout_s=0.5), deadline_s=30)
            member.complete(taken, outputs=[Envelope("out", "k", b"result")])
            wait_until(lambda: bus.read(["out"]), deadline_s=30)
        assert bus.backlog("g", ["in"]).event_count == 0
        assert [delivery.envelope.value for delivery in bus.read(["in", "out"])] == [b"event", b"result"]


def test_topics_are_made_and_retained_with_these_rights(secured: Secured) -> None:
    options = {**secured.options(), **own_prefix()}
    name = f"{options['name_prefix']}facts"
    days = 24 * 3600 * 1000
    plans = [TopicPlan("facts", 2, -1, kept * days) for kept in (90, 30)]
    done = [lay_out(secured.bootstrap, [plan], options=options) for plan in plans]
    assert [(layout.created, layout.retained) for layout in done] == [((name,), ()), ((), (name,))]
    assert missing_topics(secured.bootstrap, plans, options=options) == ()


def test_a_wrong_password_ends_the_tries(secured: Secured) -> None:
    options = {**secured.options(password="guessed"), **own_prefix(), **QUICK}
    bus = KafkaBus(secured.bootstrap, options=options)

    def refusal() -> str:
        try:
            bus.ensure_topics(["in"])
        except Retryable:  # the client may see the broker hang up before it reads why; a service tries again
            return ""
        except Permanent as error:
            return str(error)
        raise AssertionError("let in with a guessed password")

    said = wait_until(refusal, deadline_s=120)
    assert "refuses us" in said
    assert "MENDLOOP_BUS_OPTIONS" in said


def test_brokers_of_an_unknown_authority_are_not_spoken_to(secured: Secured, tmp_path: Path) -> None:
    other = str(authority(tmp_path, "others").certificate)
    options = {**secured.options(), **own_prefix(), **QUICK, "ssl_cafile": other}
    with pytest.raises(Permanent, match="certificate verify failed"):
        KafkaBus(secured.bootstrap, options=options).ensure_topics(["in"])


def test_a_user_without_rights_is_refused(secured: Secured) -> None:
    granted = own_prefix()
    with contextlib.closing(KafkaBus(secured.bootstrap, options={**secured.options(), **granted})) as bus:
        bus.ensure_topics(["in"])
    options = {**secured.options(user=STRANGER), **granted, **QUICK}
    stranger = KafkaBus(secured.bootstrap, options=options)
    with pytest.raises(Permanent, match=r"refuses us.*ACLs"):
        stranger.ensure_topics(["theirs"])
    with pytest.raises(Permanent, match=r"refuses us.*ACLs"):
        stranger.publish([Envelope("in", "k", b"forged")])
    with (
        pytest.raises(Permanent, match=r"refuses us.*ACLs"),
        contextlib.closing(stranger.consumer("g", ["in"], member="s")) as member,
    ):
        member.poll(timeout_s=5)
