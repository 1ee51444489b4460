"""The loop's own metrics, from the events of whole runs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from google.protobuf.message import Message
from run_events import (
    JUMP,
    START,
    batch,
    diagnosed,
    evaluated,
    failed,
    finished,
    planned,
    position,
    promoted,
    ready,
    ref,
    requested,
    sent,
)

from mendloop.core.contracts import GATEWAY, decode
from mendloop.core.events import Envelope
from mendloop.core.metrics import MOST_RUNS
from mendloop.core.telemetry import Telemetry
from mendloop.runs.loop_metrics import LINGER_S, LoopMetrics
from mendloop.runs.parts import RecipeFacts
from mendloop.v1 import checkpoint_pb2, common_pb2

RECIPE = RecipeFacts("r", "scan", 2, False, False, ("verb",), 0.8, 0.05, 60, 10_000, 3600.0, gpu_s=100.0, money=5.0)


class World:
    """LoopMetrics at a time that the test sets."""

    def __init__(self) -> None:
        self.now: datetime = START
        self.telemetry = Telemetry(GATEWAY)
        self.metrics = LoopMetrics(telemetry=self.telemetry, recipe_of=lambda request: RECIPE, now=lambda: self.now)

    def see(self, *events: Message | Envelope, second: float = 0, is_live: bool = True) -> None:
        for number, event in enumerate(events):
            envelope = event if isinstance(event, Envelope) else sent(event, second=second + number)
            message = decode(envelope.event_type, envelope.value)
            self.metrics.saw(envelope, message, is_live=is_live)
        self.metrics.show()

    def value(self, name: str, **labels: str) -> float | None:
        return self.telemetry.registry.get_sample_value(name, {"service": GATEWAY, **labels})

    def runs(self) -> set[str]:
        families = {family.name: family for family in self.telemetry.registry.collect()}
        return {sample.labels["run"] for sample in families["mendloop_round_accuracy"].samples}


def whole_run(run_id: str = "r1") -> list[Any]:
    """A run up to its promotion."""
    return [
        requested(run_id),
        ready(run_id),
        evaluated(run_id),
        failed(run_id, JUMP),
        diagnosed(run_id, JUMP),
        planned(run_id),
        batch(run_id),
        ready(run_id, round=1, letter="c"),
        evaluated(run_id, round=1, letter="c", correct=54, weak=0),
        promoted(run_id),
    ]


def test_a_run_shows_its_accuracy_in_each_round_with_the_interval() -> None:
    world = World()
    world.see(*whole_run())
    assert world.value("mendloop_round_accuracy", run="r1", round="0", bound="point") == pytest.approx(0.5)
    assert world.value("mendloop_round_accuracy", run="r1", round="1", bound="point") == pytest.approx(0.9)
    low = world.value("mendloop_round_accuracy", run="r1", round="1", bound="low")
    assert low is not None
    assert 0.75 < low < 0.9
    assert world.value("mendloop_slice_accuracy", run="r1", slice="verb=jump") == pytest.approx(0.8)


def test_a_finished_run_is_shown_a_little_longer_and_then_removed() -> None:
    world = World()
    world.see(*whole_run(), sent(finished(), second=20))
    assert world.runs() == {"r1"}
    assert world.value("mendloop_runs_open", stage="evaluating") == 0
    world.now = START + timedelta(seconds=21 + LINGER_S)
    world.metrics.show()
    assert world.runs() == set()
    world.see(sent(finished(), second=20, event_id="again"))
    assert world.runs() == set()


def test_only_the_newest_open_runs_are_shown_one_by_one() -> None:
    world = World()
    for number in range(MOST_RUNS + 5):
        world.see(evaluated(f"run{number:02}"), second=number)
    assert world.runs() == {f"run{number:02}" for number in range(5, MOST_RUNS + 5)}


def test_silence_is_the_longest_time_without_an_event_of_an_open_run() -> None:
    world = World()
    world.see(requested("old"), sent(evaluated("new"), second=100))
    world.now = START + timedelta(seconds=130)
    world.metrics.show()
    silences = [world.value("mendloop_run_silence_seconds", stage=stage) for stage in ("requested", "diagnosing")]
    assert silences == [130, 30]


def test_budgets_show_what_open_runs_limit_and_have_spent() -> None:
    world = World()
    world.now = START + timedelta(seconds=360)
    world.see(*whole_run())
    assert world.value("mendloop_budget_limit", resource="new_examples") == 60
    assert world.value("mendloop_budget_spent", resource="new_examples") == 30
    assert world.value("mendloop_budget_left_share", resource="new_examples") == pytest.approx(0.5)
    assert world.value("mendloop_budget_left_share", resource="wall_s") == pytest.approx(0.9)
    assert world.value("mendloop_budget_left_share", resource="teacher_tokens") is None


def test_live_work_burns_the_share_of_the_budget_that_it_took() -> None:
    world = World()
    world.see(requested())
    made = ready(round=1, letter="c")
    made.metering.CopyFrom(common_pb2.Metering(wall_s=5, gpu_s=25, token_count=2_500))
    world.see(made)
    assert world.value("mendloop_budget_burned_total", resource="gpu_s") == pytest.approx(0.25)
    assert world.value("mendloop_budget_burned_total", resource="train_tokens") == pytest.approx(0.25)
    assert world.value("mendloop_gpu_seconds_total", step="training") == 25


def test_history_sets_gauges_and_counts_nothing_again() -> None:
    world = World()
    world.see(*whole_run(), is_live=False)
    assert world.value("mendloop_decisions_total", decision="promoted") == 0
    assert world.value("mendloop_gpu_seconds_total", step="training") == 0
    assert world.value("mendloop_calibration_cases") == 1


def test_freshness_is_the_time_from_the_checkpoint_to_its_evaluation() -> None:
    world = World()
    world.see(sent(ready(), second=10), sent(evaluated(), second=17))
    assert world.value("mendloop_evaluation_freshness_seconds_sum") == pytest.approx(7)


def test_calibration_compares_confidence_with_what_became_of_the_fix() -> None:
    world = World()
    world.see(*whole_run())
    world.see(*whole_run("r2")[:-1], _rejected("r2"), second=50)
    assert world.value("mendloop_calibration_cases") == 2
    assert world.value("mendloop_calibration_confidence") == pytest.approx(0.9)
    assert world.value("mendloop_calibration_improved", bound="point") == pytest.approx(0.5)
    assert world.value("mendloop_decisions_total", decision="rejected") == 1


def test_a_promoted_checkpoint_that_is_measured_worse_shows_until_it_is_taken_back() -> None:
    world = World()
    world.see(*whole_run())
    assert world.value("mendloop_promoted_regressed_slices") == 0
    again = evaluated("other", letter="c", correct=33)
    again.evaluation_id = "other-items"
    world.see(again, second=100)
    assert world.value("mendloop_promoted_regressed_slices") == 2  # all items, and verb=jump
    taken = checkpoint_pb2.CheckpointRolledBack(position=position("r1", 1), checkpoint=ref("c"), restored=ref("a"))
    world.see(taken, second=200)
    assert world.value("mendloop_promoted_regressed_slices") == 0


def test_an_evaluation_with_touching_intervals_is_no_regression() -> None:
    world = World()
    world.see(*whole_run())
    again = evaluated("other", letter="c", correct=48)
    again.evaluation_id = "other-items"
    world.see(again, second=100)
    assert world.value("mendloop_promoted_regressed_slices") == 0


def _rejected(run_id: str) -> checkpoint_pb2.CheckpointRejected:
    gates = list(promoted(run_id).gates)
    gates[0].passed = False
    return checkpoint_pb2.CheckpointRejected(
        position=position(run_id, 1), checkpoint=ref("c"), rolled_back_to=ref("a"), gates=gates, reason="no gain"
    )
