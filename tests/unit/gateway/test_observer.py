"""The observer: metrics of the loop from the database, also after a restart and beside other replicas."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from gateways import database
from run_events import (
    evaluated,
    position,
    promoted,
    promoted_run,
    ref,
    requested,
    sent,
)

from mendloop.artifacts.store import ArtifactStore
from mendloop.bus.base import Cursor, Delivery
from mendloop.bus.local import LocalBus
from mendloop.core.contracts import CONTROLLER, GATEWAY, TRAINER, all_topics, consumed_by
from mendloop.core.events import Envelope
from mendloop.core.telemetry import Telemetry
from mendloop.gateway.adapters.run_book import RunBook
from mendloop.gateway.adapters.run_figures import RunFigures
from mendloop.gateway.adapters.view_cache import ViewCache
from mendloop.gateway.feed import Feed
from mendloop.gateway.observer import Observer
from mendloop.v1 import checkpoint_pb2


class CountingBus(LocalBus):
    """A bus that counts the events that were read from it without a group."""

    read_count = 0

    def read(self, topics: Sequence[str], *, cursor: Cursor | None = None, limit: int = 1000) -> list[Delivery]:
        """As the bus does."""
        found = super().read(topics, cursor=cursor, limit=limit)
        self.read_count += len(found)
        return found


class Replica:
    """What of a gateway keeps metrics; several of one folder share bus, store and database."""

    def __init__(self, folder: Path, *, recall_count: int = 0, keep_views: int = 128) -> None:
        self.bus, self.now = CountingBus(folder / "bus.db"), 1000.0
        self.bus.ensure_topics(all_topics())
        self.telemetry, engine, views = Telemetry(GATEWAY), database(folder), ViewCache(keep=keep_views)
        store = ArtifactStore(folder / "store")
        self.book = RunBook(
            self.bus, engine, store=store, recall_count=recall_count, telemetry=self.telemetry, cache=views
        )
        self.feed = Feed(self.book, telemetry=self.telemetry)
        figures = RunFigures(engine, views)
        self.observer = Observer(self.bus, self.feed, figures, telemetry=self.telemetry, clock=lambda: self.now)

    def look(self) -> Replica:
        """Follow the log to its end, and show."""
        while self.feed.step():
            pass
        self.now += 10
        self.observer.step()
        return self

    def value(self, name: str, **labels: str) -> float | None:
        return self.telemetry.registry.get_sample_value(name, {"service": GATEWAY, **labels})

    def open_count(self) -> float:
        """Open runs of all stages."""
        [family] = [one for one in self.telemetry.registry.collect() if one.name == "mendloop_runs_open"]
        return sum(sample.value for sample in family.samples)

    def gauges(self) -> dict[str, object]:
        """Every gauge that does not move with the clock, as it is shown."""
        moving = ("seconds", "mendloop_up", "mendloop_bus_up")
        return {
            family.name: [(sample.labels, sample.value) for sample in family.samples]
            for family in self.telemetry.registry.collect()
            if family.type == "gauge" and not family.name.endswith(moving)
        }


@pytest.fixture
def replica(tmp_path: Path) -> Replica:
    return Replica(tmp_path).look()


def made_ago(envelope: Envelope, seconds: float) -> Envelope:
    """The event, made so long ago."""
    return envelope.with_headers(ce_time=(datetime.now(UTC) - timedelta(seconds=seconds)).isoformat())


def judged_run(run_id: str = "r1") -> list[Envelope]:
    """A run up to its promotion, which goes on."""
    request, *messages = promoted_run(run_id)
    return [request, *(sent(m, event_id=f"{run_id}/{n}", second=n + 1) for n, m in enumerate(messages))]


def rejected(run_id: str) -> Envelope:
    """The decision of judged_run the other way."""
    gates = list(promoted(run_id).gates)
    gates[0].passed = False
    message = checkpoint_pb2.CheckpointRejected(
        position=position(run_id, 1), checkpoint=ref("c"), rolled_back_to=ref("a"), gates=gates, reason="no gain"
    )
    return sent(message, event_id=f"{run_id}/rejected", second=20)


def measured_again(*, correct: int) -> Envelope:
    """The promoted checkpoint, measured by another run on other items."""
    message = evaluated("other", letter="c", correct=correct)
    message.evaluation_id = "other-items"
    return sent(message, event_id="again", second=100)


def test_lag_and_age_are_shown_for_a_service_without_a_process(replica: Replica) -> None:
    replica.bus.publish([made_ago(requested(), 500), made_ago(requested("r2"), 90)])
    replica.look()
    assert replica.value("mendloop_queue_lag", consumer=TRAINER) == 2
    age = replica.value("mendloop_oldest_event_seconds", consumer=TRAINER)
    assert age is not None
    assert 500 <= age < 560


def test_what_a_service_completed_is_no_lag(replica: Replica) -> None:
    replica.bus.publish([made_ago(requested(), 500)])
    consumer = replica.bus.consumer(CONTROLLER, consumed_by(CONTROLLER), member="m")
    delivery = consumer.poll(timeout_s=5)
    assert delivery is not None
    consumer.complete(delivery)
    replica.look()
    assert replica.value("mendloop_queue_lag", consumer=CONTROLLER) == 0
    assert replica.value("mendloop_oldest_event_seconds", consumer=CONTROLLER) == 0


def test_what_was_there_before_the_gateway_is_not_counted_and_what_follows_is(tmp_path: Path) -> None:
    LocalBus(tmp_path / "bus.db").publish([requested(), sent(promoted())])
    replica = Replica(tmp_path).look()
    assert replica.value("mendloop_decisions_total", decision="promoted") == 0
    replica.bus.publish([sent(promoted("r2"), event_id="second")])
    replica.look()
    assert replica.value("mendloop_decisions_total", decision="promoted") == 1


def test_events_that_are_left_out_are_counted_with_the_reason(replica: Replica) -> None:
    good = sent(evaluated())
    replica.bus.publish([good, good, Envelope(good.topic, good.key, b"\xff", {**good.headers, "ce_id": "broken"})])
    replica.look()
    assert replica.value("mendloop_events_left_out_total", reason="repeated") == 1
    assert replica.value("mendloop_events_left_out_total", reason="unreadable") == 1


def test_a_run_whose_recipe_cannot_be_read_is_shown_without_budgets(replica: Replica) -> None:
    replica.bus.publish([requested()])
    replica.look()
    assert replica.value("mendloop_runs_open", stage="requested") == 1
    assert replica.value("mendloop_budget_limit", resource="wall_s") is None
    assert replica.value("mendloop_events_left_out_total", reason="recipe unreadable") == 1


def test_calibration_compares_confidence_with_what_became_of_the_fix(replica: Replica) -> None:
    replica.bus.publish([*judged_run(), *judged_run("r2")[:-1], rejected("r2")])
    replica.look()
    assert replica.value("mendloop_calibration_cases") == 2
    assert replica.value("mendloop_calibration_confidence") == pytest.approx(0.9)
    assert replica.value("mendloop_calibration_improved", bound="point") == pytest.approx(0.5)
    assert replica.value("mendloop_decisions_total", decision="rejected") == 1


def test_a_promoted_checkpoint_that_is_measured_worse_shows_until_it_is_taken_back(replica: Replica) -> None:
    replica.bus.publish(judged_run())
    assert replica.look().value("mendloop_promoted_regressed_slices") == 0
    replica.bus.publish([measured_again(correct=33)])
    assert replica.look().value("mendloop_promoted_regressed_slices") == 2, "all items, and verb=jump"
    taken = checkpoint_pb2.CheckpointRolledBack(position=position("r1", 1), checkpoint=ref("c"), restored=ref("a"))
    replica.bus.publish([sent(taken, second=200)])
    assert replica.look().value("mendloop_promoted_regressed_slices") == 0


def test_an_evaluation_with_touching_intervals_is_no_regression(replica: Replica) -> None:
    replica.bus.publish([*judged_run(), measured_again(correct=48)])
    assert replica.look().value("mendloop_promoted_regressed_slices") == 0


def test_a_restarted_gateway_shows_the_same_and_reads_only_what_it_recalls(tmp_path: Path) -> None:
    first = Replica(tmp_path).look()
    runs = [event for n in range(20) for event in judged_run(f"r{n:02}")]
    first.bus.publish([*runs, measured_again(correct=33)])
    before = first.look().gauges()
    assert first.open_count() == 21
    assert first.value("mendloop_calibration_cases") == 20
    assert first.value("mendloop_promoted_regressed_slices") == 2
    restarted = Replica(tmp_path, recall_count=15).look()
    assert restarted.bus.read_count <= 16, "15, and the one that tells that it is the same log"
    assert restarted.gauges() == before
    assert restarted.value("mendloop_decisions_total", decision="promoted") == 0, "counters begin anew"


def test_replicas_show_the_same_whoever_writes_an_event_down(tmp_path: Path) -> None:
    one, two, small = Replica(tmp_path).look(), Replica(tmp_path).look(), Replica(tmp_path, keep_views=1).look()
    events = [*judged_run(), *judged_run("r2")[:-1], rejected("r2"), measured_again(correct=33)]
    for n, event in enumerate(events):
        one.bus.publish([event])
        for replica in (one, two, small) if n % 2 else (small, two, one):
            replica.look()
    assert one.gauges() == two.gauges() == small.gauges()
    for replica in (one, two, small):
        counts = [replica.value("mendloop_decisions_total", decision=name) for name in ("promoted", "rejected")]
        assert counts == [1, 1]
        assert replica.value("mendloop_step_seconds_total", step="evaluation") == 5 * 3
        assert replica.value("mendloop_calibration_cases") == 2
        assert replica.value("mendloop_promoted_regressed_slices") == 2


def test_what_waits_for_the_database_is_counted_once_it_is_written(replica: Replica) -> None:
    replica.bus.publish(judged_run())
    replica.feed.step()
    replica.book.trouble = "the database is away"
    replica.observer.step()
    assert replica.value("mendloop_decisions_total", decision="promoted") == 0
    replica.book.trouble = ""
    assert replica.look().value("mendloop_decisions_total", decision="promoted") == 1
    assert replica.look().value("mendloop_decisions_total", decision="promoted") == 1
