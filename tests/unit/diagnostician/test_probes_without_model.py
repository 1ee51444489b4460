"""Probes that ask no model: the loss curve, leaked items, wrong targets. Each sees its cause and not another one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from diagnosis_cases import GREEN, ToyModel, ToyTask, all_items, answer_of, case_of, corpus_of, wrong_on

from mendloop.core.recipe import TrainSettings
from mendloop.core.records import Example, Item, Score
from mendloop.core.tasks import matches
from mendloop.diagnostician.domain.case import Case, Training
from mendloop.diagnostician.domain.evidence import Evidence
from mendloop.diagnostician.domain.probes.leakage import Leakage
from mendloop.diagnostician.domain.probes.loss_curve import LossCurve
from mendloop.diagnostician.domain.probes.target_check import TargetCheck
from mendloop.diagnostician.domain.probing import Probe


def _rows(probe: Probe, case: Case) -> dict[tuple[str, str], Evidence]:
    return {(row.measurement, row.sample): row for row in probe.run(case)}


def _trained(losses: Sequence[float]) -> Case:
    curve = tuple((10 * at, loss) for at, loss in enumerate(losses, start=1))
    return case_of(ToyModel(answers=wrong_on("green")), training=Training(TrainSettings(), (), curve, 240))


def test_a_loss_that_is_still_falling_differs_from_one_that_has_settled() -> None:
    falling = _rows(LossCurve(), _trained([3.0 - 0.1 * at for at in range(24)]))
    settled = _rows(LossCurve(), _trained([max(0.02, 3.0 * 0.5**at) for at in range(24)]))
    assert falling["late_drop", ""].value > 0.3
    assert abs(settled["late_drop", ""].value) < 0.05
    assert (falling["rise", ""].value, settled["rise", ""].value) == (1, pytest.approx(1))
    assert "after 240 steps" in falling["last_nats", ""].reading


def test_a_loss_that_rises_or_breaks_is_seen() -> None:
    rising = _rows(LossCurve(), _trained([2.0, 1.0, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]))
    broken = _rows(LossCurve(), _trained([2.0, 1.0, math.nan, math.inf]))
    assert rising["rise", ""].value == pytest.approx(10)
    assert rising["late_drop", ""].value < 0
    assert (broken["is_finite", ""].value, rising["is_finite", ""].value) == (0, 1)
    assert "no number from step 30 on" in broken["is_finite", ""].reading


def test_noise_of_a_loss_near_zero_is_no_rise() -> None:
    rows = _rows(LossCurve(), _trained([1.0, *[0.00001, 0.002] * 8]))
    assert rows["rise", ""].value == 1
    assert abs(rows["late_drop", ""].value) < 0.2


def test_no_report_is_no_loss_curve() -> None:
    rows = LossCurve().run(case_of(ToyModel(answers=wrong_on("green"))))
    assert {(row.n, row.reading) for row in rows} == {(0, "There is no training report.")}


def _green_items() -> list[Item]:
    return [row for row in all_items() if matches(row.axes, GREEN)]


def _knows(prompts: set[str]) -> ToyModel:
    """Right on green only where it saw the very prompt."""
    wrong = wrong_on("green")
    return ToyModel(answers=lambda prompt: answer_of(prompt) if prompt in prompts else wrong(prompt))


def test_leaked_items_are_found_and_are_the_right_ones() -> None:
    leaked = _green_items()[::2]
    rows = [Example(f"  {row.prompt.upper()} ", row.target, "leak") for row in leaked]
    case = case_of(_knows({row.prompt for row in leaked}), corpus=[*corpus_of(), *rows])
    found = _rows(Leakage(), case)
    for name in ("a", "b"):
        values = [found[measurement, name].value for measurement in ("leaked_failed", "leaked_passing", "fresh_gap")]
        assert values == [0, 1, 1]
    assert "stand in the training corpus, e.g. 'take thing" in found["leaked_passing", "a"].reading


def test_a_corpus_of_other_things_leaks_nothing() -> None:
    found = _rows(Leakage(), case_of(ToyModel(answers=wrong_on("green"))))
    assert (found["leaked_failed", "a"].value, found["leaked_failed", "a"].n) == (0, 20)
    assert found["fresh_gap", "a"].n == 0


def test_a_long_prompt_inside_an_example_is_leaked_and_its_parts_in_several_are_not() -> None:
    long = "one two three four five six seven eight nine"
    item = Item("long", f"take thing1 and paint green {long}", "x", "search", axes={"colour": ("green",)})
    whole = Example("read this", f"Well: {item.prompt} and so on", "web")
    parts = [Example(item.prompt.rsplit(" ", 1)[0], "x", "web"), Example(item.prompt.split(" ", 1)[1], "x", "web")]
    model = ToyModel(answers=wrong_on("green"))
    inside = _rows(Leakage(), case_of(model, items=[item], corpus=[whole]))
    apart = _rows(Leakage(), case_of(model, items=[item], corpus=parts))
    assert (inside["leaked_failed", "a"].value, apart["leaked_failed", "a"].value) == (1, 0)


def test_wrong_targets_are_told_from_wrong_answers() -> None:
    wrong = wrong_on("green")
    items = [
        Item(row.item_id, row.prompt, wrong(row.prompt), row.split, axes=row.axes) if matches(row.axes, GREEN) else row
        for row in all_items()
    ]
    bad_targets = _rows(TargetCheck(), case_of(ToyModel(), items=items))
    bad_answers = _rows(TargetCheck(), case_of(ToyModel(answers=wrong)))
    for name in ("a", "b"):
        assert [bad_targets[row, name].value for row in ("wrong_target_share", "verified_output_share")] == [1, 1]
        assert [bad_answers[row, name].value for row in ("wrong_target_share", "verified_output_share")] == [0, 0]
    reading = bad_targets["wrong_target_share", "a"].reading
    assert "it says 'thing" in reading
    assert "blue done', right is 'thing" in reading


def test_a_right_answer_that_the_scorer_refused_is_seen() -> None:
    class _Deaf(ToyTask):
        def score(self, item: Item, output: str) -> Score:
            return Score(0.0, "none")

    rows = _rows(TargetCheck(), case_of(ToyModel(), task=_Deaf()))
    assert (rows["verified_output_share", "a"].value, rows["wrong_target_share", "a"].value) == (1, 0)


def test_prompts_that_the_verifier_cannot_read_are_no_wrong_targets() -> None:
    class _Strict(ToyTask):
        def verify(self, prompt: str, answer: str) -> bool:
            return prompt.startswith("take") and super().verify(prompt, answer)

    items = [Item(row.item_id, f"please {row.prompt}", row.target, row.split, axes=row.axes) for row in _green_items()]
    rows = _rows(TargetCheck(), case_of(ToyModel(answers=lambda prompt: "none"), items=items, task=_Strict()))
    assert rows["wrong_target_share", "a"].n == 0
    assert "cannot judge" in rows["wrong_target_share", "a"].reading
