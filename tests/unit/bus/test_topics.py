"""How topics are laid out: facts stay, work goes, and everything a service reads is there."""

from __future__ import annotations

import json

import pytest

from mendloop.bus.topics import DAY_MS, TopicPlan, plans
from mendloop.bus.topics.__main__ import main
from mendloop.core.contracts import DEAD_LETTER_TOPIC, SERVICES, all_topics, consumed_by, retry_topic


def planned() -> dict[str, TopicPlan]:
    made = plans(partition_count=8, replication_factor=3, retention_days=90, work_retention_days=7)
    return {plan.name: plan for plan in made}


def test_every_topic_that_a_service_reads_is_planned_once() -> None:
    assert sorted(planned()) == sorted(all_topics())
    assert all(topic in planned() for service in SERVICES for topic in consumed_by(service))


def test_facts_stay_longer_than_work() -> None:
    assert planned()[DEAD_LETTER_TOPIC].retention_ms == 90 * DAY_MS
    assert planned()["mendloop.eval-failed.v1"].retention_ms == 90 * DAY_MS
    assert planned()["mendloop.evaluation-shard.v1"].retention_ms == 7 * DAY_MS
    assert planned()[retry_topic("trainer")].retention_ms == 7 * DAY_MS


def test_minus_one_day_is_for_ever() -> None:
    made = plans(partition_count=1, replication_factor=-1, retention_days=-1, work_retention_days=-1)
    assert {plan.retention_ms for plan in made} == {-1}


@pytest.mark.parametrize(("partitions", "copies"), [(0, 1), (1, 0), (1, -2)])
def test_impossible_topics_are_refused(partitions: int, copies: int) -> None:
    with pytest.raises(ValueError, match="t: "):
        TopicPlan("t", partition_count=partitions, replication_factor=copies, retention_ms=1)


def test_printed_topics_carry_the_prefix_and_no_broker_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MENDLOOP_BUS", "kafka:nowhere:1")
    monkeypatch.setenv("MENDLOOP_BUS_OPTIONS", json.dumps({"name_prefix": "team.", "partition_count": "3"}))
    main(["--print", "--retention-days=2"])
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in rows} == {f"team.{topic}" for topic in all_topics()}
    assert {row["partition_count"] for row in rows} == {3}


def test_a_local_bus_has_no_topics_to_lay_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MENDLOOP_BUS", "local:bus.db")
    with pytest.raises(SystemExit, match="only Kafka has topics"):
        main([])
