"""The loop's own metrics, from the events of whole runs."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from google.protobuf.message import Message
from run_events import (
    START,
    evaluated,
    finished,
    promoted_run,
    ready,
    requested,
    sent,
)

from mendloop.core.contracts import GATEWAY, decode
from mendloop.core.events import Envelope
from mendloop.core.metrics import MOST_RUNS
from mendloop.core.telemetry import Telemetry
from mendloop.runs.calibration import Case
from mendloop.runs.loop_metrics import LINGER_S, Judgement, LoopMetrics
from mendloop.runs.model import RunView
from mendloop.runs.parts import RecipeFacts
from mendloop.runs.view import fold, run_of
from mendloop.v1 import common_pb2

RECIPE = RecipeFacts("r", "scan", 2, False, False, ("verb",), 0.8, 0.05, 60, 10_000, 3600.0, gpu_s=100.0, money=5.0)


class World:
    """LoopMetrics at a time that the test sets, over views that are folded here."""

    def __init__(self) -> None:
        self.now: datetime = START
        self.telemetry = Telemetry(GATEWAY)
        self.metrics = LoopMetrics(telemetry=self.telemetry, now=lambda: self.now)
        self.views: dict[str, RunView] = {}

    def see(self, *events: Message | Envelope, second: float = 0) -> None:
        for number, event in enumerate(events):
            envelope = event if isinstance(event, Envelope) else sent(event, second=second + number)
            message = decode(envelope.event_type, envelope.value)
            run_id = run_of(message)
            self.views[run_id] = fold(self.views.get(run_id) or RunView(run_id, recipe=RECIPE), envelope)
            self.metrics.count(self.views[run_id], envelope, message)
        self.show()

    def show(self, judgement: Judgement = Judgement()) -> None:
        self.metrics.show(self.views.values(), judgement)

    def value(self, name: str, **labels: str) -> float | None:
        return self.telemetry.registry.get_sample_value(name, {"service": GATEWAY, **labels})

    def runs(self) -> set[str]:
        families = {family.name: family for family in self.telemetry.registry.collect()}
        return {sample.labels["run"] for sample in families["mendloop_round_accuracy"].samples}


def test_a_run_shows_its_accuracy_in_each_round_with_the_interval() -> None:
    world = World()
    world.see(*promoted_run())
    assert world.value("mendloop_round_accuracy", run="r1", round="0", bound="point") == pytest.approx(0.5)
    assert world.value("mendloop_round_accuracy", run="r1", round="1", bound="point") == pytest.approx(0.9)
    low = world.value("mendloop_round_accuracy", run="r1", round="1", bound="low")
    assert low is not None
    assert 0.75 < low < 0.9
    assert world.value("mendloop_slice_accuracy", run="r1", slice="verb=jump") == pytest.approx(0.8)


def test_a_finished_run_is_shown_a_little_longer_and_then_removed() -> None:
    world = World()
    world.see(*promoted_run(), sent(finished(), second=20))
    assert world.runs() == {"r1"}
    assert world.value("mendloop_runs_open", stage="evaluating") == 0
    world.now = START + timedelta(seconds=21 + LINGER_S)
    world.show()
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
    world.show()
    silences = [world.value("mendloop_run_silence_seconds", stage=stage) for stage in ("requested", "diagnosing")]
    assert silences == [130, 30]


def test_budgets_show_what_open_runs_limit_and_have_spent() -> None:
    world = World()
    world.now = START + timedelta(seconds=360)
    world.see(*promoted_run())
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


def test_freshness_is_the_time_from_the_checkpoint_to_its_evaluation() -> None:
    world = World()
    world.see(sent(ready(), second=10), sent(evaluated(), second=17))
    assert world.value("mendloop_evaluation_freshness_seconds_sum") == pytest.approx(7)


def test_judgement_shows_what_became_of_verdicts() -> None:
    world = World()
    world.show(Judgement([Case("s1", 0.8, True), Case("s2", 0.6, False)], regressed_count=3))
    assert world.value("mendloop_calibration_cases") == 2
    assert world.value("mendloop_calibration_confidence") == pytest.approx(0.7)
    assert world.value("mendloop_calibration_improved", bound="point") == pytest.approx(0.5)
    assert world.value("mendloop_promoted_regressed_slices") == 3
