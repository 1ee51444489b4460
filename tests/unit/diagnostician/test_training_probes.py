"""Probes of the training examples: wrong and disputed labels, fit of the slice, loss by position, words and answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from diagnosis_cases import GREEN, ToyModel, ToyTask, case_of, corpus_of, wrong_on
from probe_models import rows_of, values

from mendloop.core.records import Example
from mendloop.core.tasks import matches
from mendloop.diagnostician.adapters.probes.label_noise import LabelNoise
from mendloop.diagnostician.adapters.probes.token_loss import TokenLoss
from mendloop.diagnostician.adapters.probes.training_fit import TrainingFit
from mendloop.diagnostician.domain.metering import MeteredModel
from mendloop.diagnostician.domain.probes.corpus_coverage import CorpusCoverage
from mendloop.models.generation import TokenLogprobs


def _corrupted() -> list[Example]:
    """Every second green label says blue."""
    rows = corpus_of()
    green = [row for row in rows if matches(row.axes, GREEN)]
    wrong = {row.prompt for row in green[::2]}
    return [
        replace(row, completion=row.completion.replace("green", "blue")) if row.prompt in wrong else row for row in rows
    ]


SHARES = ("wrong_label_share", "rest_wrong_label_share", "disagreement_share", "rest_disagreement_share")


def test_wrong_labels_of_the_slice_are_told_from_the_rest() -> None:
    case = case_of(ToyModel(answers=wrong_on("green")), corpus=_corrupted())
    wrong, rest_wrong, disputed, rest_disputed = values(LabelNoise(), case, *SHARES)
    assert (wrong, rest_wrong, rest_disputed) == (0.5, 0, 0)
    assert 0.2 < disputed < 0.8
    assert "labelled 'thing" in rows_of(LabelNoise(), case)["wrong_label_share", ""].reading


def test_missing_data_is_no_label_noise() -> None:
    case = case_of(ToyModel(answers=wrong_on("green")), corpus=corpus_of(per_colour={"green": 0}))
    rows = rows_of(LabelNoise(), case)
    assert {rows[name, ""].n for name in ("wrong_label_share", "conflict_share", "disagreement_share")} == {0}
    assert rows["rest_wrong_label_share", ""].value == 0


def test_a_verifier_that_accepts_nothing_cannot_tell() -> None:
    class _Silent(ToyTask):
        def verify(self, prompt: str, answer: str) -> bool:
            return False

    rows = rows_of(LabelNoise(), case_of(ToyModel(answers=wrong_on("green")), task=_Silent()))
    assert (rows["wrong_label_share", ""].n, rows["disagreement_share", ""].value) == (0, 1)


def test_labels_that_conflict_are_counted_by_prompt() -> None:
    green = [row for row in corpus_of() if matches(row.axes, GREEN)]
    twice = [replace(row, completion="something else", prompt=row.prompt.upper()) for row in green[:10]]
    rows = rows_of(LabelNoise(), case_of(ToyModel(answers=wrong_on("green")), corpus=[*corpus_of(), *twice]))
    assert rows["conflict_share", ""].value == pytest.approx(10 / len(green))


def test_the_slices_own_examples_may_be_unlearnt_while_the_rest_fits() -> None:
    rows = rows_of(TrainingFit(), case_of(ToyModel(answers=wrong_on("green"))))
    assert rows["slice_right_share", ""].value == 0
    assert rows["right_share", ""].value > 0.5


def test_an_example_that_lacks_only_its_end_was_learnt() -> None:
    rows = rows_of(TrainingFit(), case_of(ToyModel(never_stops=lambda prompt: True)))
    assert rows["slice_right_share", ""].value == 1


def test_probes_share_the_training_examples_that_they_ask_for() -> None:
    case = case_of(ToyModel(answers=wrong_on("green")))
    model = MeteredModel(case.model or ToyModel())
    TrainingFit().run(replace(case, model=model))
    paid = model.token_count
    LabelNoise().run(replace(case, model=model))
    assert model.token_count == paid > 0


@dataclass
class _Unlearnt(ToyModel):
    """Has not learnt how answers begin."""

    def logprobs(self, prompts: Sequence[str], completions: Sequence[str]) -> list[TokenLogprobs]:
        return [TokenLogprobs((-4.0, -3.0, *[-0.1] * (len(text.split()) - 2)), -0.1) for text in completions]


def test_answers_whose_beginning_was_not_learnt_differ_by_position() -> None:
    names = ("first_answer_nats", "last_answer_nats")
    assert values(TokenLoss(), case_of(_Unlearnt(answers=wrong_on("green"))), *names) == [3.5, pytest.approx(0.1)]
    assert values(TokenLoss(), case_of(ToyModel(answers=wrong_on("green"))), *names) == [pytest.approx(0.01)] * 2


TERMS = ("unseen_term_failed", "unseen_term_passing", "answer_seen_failed", "answer_seen_passing")


def test_a_word_that_the_corpus_lacks_is_named() -> None:
    corpus = [row for row in corpus_of() if not matches(row.axes, GREEN)]
    case = case_of(ToyModel(answers=wrong_on("green")), corpus=corpus)
    assert values(CorpusCoverage(), case, *TERMS)[:2] == [1, 0]
    assert "('green')" in rows_of(CorpusCoverage(), case)["unseen_term_failed", "a"].reading


def test_known_words_in_a_new_combination_are_no_unseen_term() -> None:
    grass = Example("the grass is green", "yes green", "corpus", axes={"colour": ("none",)})
    corpus = [*(row for row in corpus_of() if not matches(row.axes, GREEN)), grass]
    case = case_of(ToyModel(answers=wrong_on("green")), corpus=corpus)
    unseen, unseen_passing, seen, seen_passing = values(CorpusCoverage(), case, *TERMS)
    assert (unseen, unseen_passing) == (0, 0)
    assert (seen, seen_passing) == (0, 1), "green stands nowhere beside an answer that ends with done"


def test_a_term_whose_answer_was_never_seen_with_it_differs_from_passing_ones() -> None:
    case = case_of(ToyModel(answers=wrong_on("green")))
    assert values(CorpusCoverage(), case, *TERMS) == [0, 0, 1, 1]
