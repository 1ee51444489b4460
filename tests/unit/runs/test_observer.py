"""The observer looks at the log and at how far each service is behind it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from run_events import evaluated, promoted, requested, sent

from mendloop.artifacts.store import ArtifactStore
from mendloop.bus.local import LocalBus
from mendloop.core.contracts import CONTROLLER, GATEWAY, TRAINER, all_topics, consumed_by
from mendloop.core.events import Envelope
from mendloop.core.telemetry import Telemetry
from mendloop.runs.observer import Observer


class World:
    """An observer over a bus in a file."""

    def __init__(self, folder: Path) -> None:
        self.bus = LocalBus(folder / "bus.db")
        self.bus.ensure_topics(all_topics())
        self.telemetry = Telemetry(GATEWAY)
        self.observer = Observer(self.bus, store=ArtifactStore(folder / "store"), telemetry=self.telemetry)

    def value(self, name: str, **labels: str) -> float | None:
        return self.telemetry.registry.get_sample_value(name, {"service": GATEWAY, **labels})


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def made_ago(envelope: Envelope, seconds: float) -> Envelope:
    """The event, made so long ago."""
    return envelope.with_headers(ce_time=(datetime.now(UTC) - timedelta(seconds=seconds)).isoformat())


def test_lag_and_age_are_shown_for_a_service_without_a_process(world: World) -> None:
    world.bus.publish([made_ago(requested(), 500), made_ago(requested("r2"), 90)])
    world.observer.step()
    assert world.value("mendloop_queue_lag", consumer=TRAINER) == 2
    age = world.value("mendloop_oldest_event_seconds", consumer=TRAINER)
    assert age is not None
    assert 500 <= age < 560


def test_what_a_service_completed_is_no_lag(world: World) -> None:
    world.bus.publish([made_ago(requested(), 500)])
    consumer = world.bus.consumer(CONTROLLER, consumed_by(CONTROLLER), member="m")
    delivery = consumer.poll(timeout_s=5)
    assert delivery is not None
    consumer.complete(delivery)
    world.observer.step()
    assert world.value("mendloop_queue_lag", consumer=CONTROLLER) == 0
    assert world.value("mendloop_oldest_event_seconds", consumer=CONTROLLER) == 0


def test_what_was_there_before_the_gateway_is_not_counted_and_what_follows_is(world: World) -> None:
    world.bus.publish([requested(), sent(promoted())])
    world.observer.step()
    assert world.value("mendloop_decisions_total", decision="promoted") == 0
    world.bus.publish([sent(promoted("r2"), event_id="second")])
    world.observer.step()
    assert world.value("mendloop_decisions_total", decision="promoted") == 1


def test_events_that_are_left_out_are_counted_with_the_reason(world: World) -> None:
    good = sent(evaluated())
    world.bus.publish([good, good, Envelope(good.topic, good.key, b"\xff", {**good.headers, "ce_id": "broken"})])
    world.observer.step()
    assert world.value("mendloop_log_left_out_total", reason="repeated") == 1
    assert world.value("mendloop_log_left_out_total", reason="unreadable") == 1


def test_a_run_whose_recipe_cannot_be_read_is_shown_without_budgets(world: World) -> None:
    world.bus.publish([requested()])
    world.observer.step()
    assert world.value("mendloop_runs_open", stage="requested") == 1
    assert world.value("mendloop_budget_limit", resource="wall_s") is None
    assert world.value("mendloop_log_left_out_total", reason="recipe unreadable") == 1
