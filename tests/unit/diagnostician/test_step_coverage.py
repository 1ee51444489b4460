"""Training examples that answer without their steps are counted in the slice and outside."""

from __future__ import annotations

from dataclasses import replace

from diagnosis_cases import ToyModel, ToyTask, answer_of, case_of, corpus_of, wrong_on

from mendloop.core.records import Item
from mendloop.diagnostician.domain.probes.step_coverage import StepCoverage


class Worked(ToyTask):
    """Answers with a step before them."""

    def worked_steps(self, item: Item) -> tuple[str, ...]:
        answer = answer_of(item.prompt)
        return (f"think {answer} ;", f" {answer}")


def _corpus(*, bare: str):  # type: ignore[no-untyped-def]
    rows = [replace(row, completion=f"think {row.completion} ; {row.completion}") for row in corpus_of()]
    return [replace(row, completion=answer_of(row.prompt)) if row.axes["colour"] == (bare,) else row for row in rows]


def test_a_slice_without_steps_stands_out() -> None:
    case = case_of(ToyModel(answers=wrong_on("green")), corpus=_corpus(bare="green"), task=Worked())
    inside, outside = StepCoverage().run(case)
    assert (inside.measurement, inside.value, inside.n) == ("stepless_share", 1, 40)
    assert (outside.value, outside.n) == (0, 200)


def test_without_known_steps_nothing_is_counted() -> None:
    case = case_of(ToyModel(answers=wrong_on("green")))
    assert [row.n for row in StepCoverage().run(case)] == [0, 0]
    none = case_of(ToyModel(answers=wrong_on("green")), corpus=[], task=Worked())
    assert [row.n for row in StepCoverage().run(none)] == [0, 0]
