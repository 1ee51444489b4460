"""Agreement against published values and by simulation; a reader's axes count only once they are measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from mendloop.axes.agreement import cohen_kappa, krippendorff_alpha
from mendloop.axes.reader import AxisQuestion, Labelled, measure_axis, read_axis
from mendloop.axes.subject import Subject
from mendloop.core.errors import Permanent

QUESTION = AxisQuestion("topic", "What is it about?", (("sum", "adding"), ("sort", "ordering"), ("other", "the rest")))


@dataclass
class FakeReader:
    """Answers from a table of prompts' words; counts its questions."""

    answer: str = ""
    wrong_every: int = 0
    asked: list[str] = field(default_factory=list)

    def answers(self, prompts: Sequence[str]) -> list[str]:
        self.asked += prompts
        return [self._one(i, prompt) for i, prompt in enumerate(prompts)]

    def _one(self, i: int, prompt: str) -> str:
        if self.answer or (self.wrong_every and i % self.wrong_every == 0):
            return self.answer or "other"
        return f"I think it is:\n**{'sum' if 'add' in prompt.split('<<<')[1] else 'sort'}**"


LABELLED = [Labelled(Subject(f"{'add' if i % 2 else 'order'} {i}"), "sum" if i % 2 else "sort") for i in range(60)]


def test_kappa_is_that_of_a_worked_example() -> None:
    # 20 both yes, 15 both no, 5 and 10 apart: observed .70, expected .50, kappa .40
    first = ["y"] * 25 + ["n"] * 25
    second = ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15

    assert cohen_kappa(first, second).value == pytest.approx(0.4)


def test_alpha_is_that_of_krippendorff_s_worked_example() -> None:
    # Krippendorff (2011), example C: four observers, twelve units, missing data, nominal alpha .743
    observers = [
        "1 2 3 3 2 1 4 1 2 . . .",
        "1 2 3 3 2 2 4 1 2 5 . 3",
        ". 3 3 3 2 3 4 2 2 5 1 .",
        "1 2 3 3 2 4 4 1 2 5 1 .",
    ]
    units = [[None if x == "." else x for x in unit] for unit in zip(*(row.split() for row in observers), strict=True)]

    found = krippendorff_alpha(units)

    assert found.value == pytest.approx(0.743, abs=0.001)
    assert found.n == 11
    assert found.low < found.value < found.high


def test_agreement_without_any_variety_shows_nothing() -> None:
    assert cohen_kappa(["x"] * 9, ["x"] * 9).value == 0.0
    with pytest.raises(ValueError, match="none of 1 has"):
        krippendorff_alpha([["x", None]])


def test_the_interval_of_kappa_covers_the_truth() -> None:
    # both say the true one of 3 equally likely values with p = .8, else one of the 3 by chance: kappa = .8 * .8
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        truth = rng.integers(0, 3, 80)
        a, b = (np.where(rng.random(80) < 0.8, truth, rng.integers(0, 3, 80)).astype(str).tolist() for _ in range(2))
        found = cohen_kappa(a, b)
        covered += found.low <= 0.64 <= found.high

    assert 0.90 <= covered / 200 <= 0.99


def test_a_reader_that_agrees_with_people_counts() -> None:
    reader = FakeReader()

    axis = measure_axis(QUESTION, reader=reader, labelled=LABELLED)
    reading = read_axis(axis, [Subject("add 5"), Subject("order 7")], reader=reader)

    assert axis.counts
    assert axis.agreement.value == axis.repeat.value == 1.0
    assert reading.values == ("sum", "sort")


def test_a_reader_that_guesses_does_not_count_and_is_refused() -> None:
    axis = measure_axis(QUESTION, reader=FakeReader(wrong_every=2), labelled=LABELLED)

    assert not axis.counts
    with pytest.raises(Permanent, match=r"kappa .* on 60 labelled items; the lower end must reach 0.60"):
        read_axis(axis, [Subject("add")], reader=FakeReader())


@pytest.mark.parametrize("answer", ["no idea", "sum or sort", "summary"])
def test_an_answer_without_one_value_is_counted_as_unreadable(answer: str) -> None:
    axis = measure_axis(QUESTION, reader=FakeReader(answer), labelled=LABELLED)

    assert axis.unreadable_count == 60
    assert not axis.counts


def test_too_few_labels_or_a_label_from_elsewhere_are_refused() -> None:
    with pytest.raises(ValueError, match="has 5 labelled items, 30 or more"):
        measure_axis(QUESTION, reader=FakeReader(), labelled=LABELLED[:5])
    with pytest.raises(ValueError, match="no value of it: elsewhere"):
        measure_axis(QUESTION, reader=FakeReader(), labelled=[*LABELLED, Labelled(Subject("x"), "elsewhere")])


def test_a_reader_that_loses_answers_is_an_error() -> None:
    class Losing(FakeReader):
        def answers(self, prompts: Sequence[str]) -> list[str]:
            return ["sum"]

    with pytest.raises(Permanent, match="1 answers to 60 questions"):
        measure_axis(QUESTION, reader=Losing(), labelled=LABELLED)
