"""Models that fail in one known way get the right verdict from the real probes, and no verdict where none is due."""

from __future__ import annotations

from dataclasses import replace

import pytest
from diagnosis_cases import GREEN, ToyModel, ToyTask, answer_of, case_of, corpus_of, diagnose, wrong_on

from mendloop.core.recipe import TrainSettings
from mendloop.core.records import Example
from mendloop.diagnostician.domain.case import Check, Training
from mendloop.diagnostician.domain.causes import Cause
from mendloop.diagnostician.domain.interventions import Kind, propose


def _training(*checks: Check, losses: tuple[float, ...] = (2.0, 0.1)) -> Training:
    return Training(TrainSettings(steps=100), checks, tuple(enumerate(losses)), 280)


EOS_LABELLED = Check("eos_in_loss", True, 1.0)
EOS_UNLABELLED = Check("eos_in_loss", False, 0.0)
MASK_RIGHT = Check("label_mask", True, 1.0)


def test_a_slice_that_the_corpus_lacks_is_missing_data() -> None:
    case = case_of(ToyModel(answers=wrong_on("green")), corpus=corpus_of(per_colour={"green": 0}))
    verdict, findings = diagnose(case)
    assert verdict.cause is Cause.DATA_MISSING
    assert verdict.confidence > 0.7
    assert propose(verdict, findings.evidence, training=None)[0].kind is Kind.DATA


def test_one_prompt_repeated_a_thousand_times_is_still_missing_data() -> None:
    lone = Example("green", "x green done", "corpus", axes={"colour": ("green",)})
    case = case_of(ToyModel(answers=wrong_on("green")), corpus=[*corpus_of(per_colour={"green": 0}), *[lone] * 1000])
    verdict, findings = diagnose(case)
    assert verdict.cause is Cause.DATA_MISSING
    distinct = next(row for row in findings.evidence if row.measurement == "distinct_prompts")
    assert (distinct.value, distinct.n) == (1, 241)


def test_a_slice_with_few_prompts_beside_its_siblings_is_skewed_data() -> None:
    case = case_of(ToyModel(answers=wrong_on("green")), corpus=corpus_of(per_colour={"green": 4}))
    assert diagnose(case)[0].cause is Cause.DATA_SKEW


def test_a_slice_that_only_shares_items_with_the_one_that_lacks_data_gets_no_data_verdict() -> None:
    model = ToyModel(answers=wrong_on("green"))
    case = case_of(model, conditions=(("size", "big"),), corpus=corpus_of(per_colour={"green": 0}))
    verdict, _ = diagnose(case)
    assert verdict.cause is Cause.UNKNOWN
    assert "DATA_MISSING explains at least 0%" in verdict.because


def test_a_slice_that_the_corpus_covers_gets_no_data_verdict() -> None:
    verdict, findings = diagnose(case_of(ToyModel(answers=wrong_on("green"))))
    assert verdict.cause is Cause.UNKNOWN
    assert not findings.skipped, "every probe has to be tried before giving up"
    assert propose(verdict, findings.evidence, training=None)[0].kind is Kind.NONE


def test_a_model_that_never_stops_and_loses_eos_has_eos_masked() -> None:
    model = ToyModel(never_stops=lambda prompt: True, eos_nats=14.0)
    verdict, findings = diagnose(case_of(model, training=_training(EOS_UNLABELLED, MASK_RIGHT)))
    assert verdict.cause is Cause.EOS_MASKED
    fix = propose(verdict, findings.evidence, training=None)[0]
    assert (fix.kind, [str(one) for one in fix.fixes]) == (Kind.TRAINING_FIX, ["train.eos_in_loss=true"])
    assert "longer_budget" in findings.skipped, "a clear verdict pays for no generation"


def test_eos_masked_is_found_without_a_training_report() -> None:
    verdict, _ = diagnose(case_of(ToyModel(never_stops=lambda prompt: True, eos_nats=14.0)))
    assert verdict.cause is Cause.EOS_MASKED


def test_a_model_that_stops_late_for_lack_of_eos_in_the_loss_has_eos_masked() -> None:
    model = ToyModel(answers=lambda prompt: answer_of(prompt) + " done", eos_nats=4.9)
    verdict, _ = diagnose(case_of(model, training=_training(EOS_UNLABELLED, MASK_RIGHT)))
    assert verdict.cause is Cause.EOS_MASKED


def test_missing_data_does_not_hide_that_nothing_ever_stops() -> None:
    model = ToyModel(answers=wrong_on("green"), never_stops=lambda prompt: True, eos_nats=14.0)
    verdict, _ = diagnose(case_of(model, corpus=corpus_of(per_colour={"green": 0})))
    assert verdict.cause is Cause.EOS_MASKED


def test_eos_that_carried_loss_is_not_called_masked() -> None:
    model = ToyModel(never_stops=lambda prompt: True, eos_nats=14.0)
    verdict, _ = diagnose(case_of(model, training=_training(EOS_LABELLED, MASK_RIGHT)))
    assert verdict.cause is Cause.UNKNOWN


def test_a_never_stopping_output_is_no_scorer_bug() -> None:
    model = ToyModel(never_stops=lambda prompt: True, eos_nats=0.01)
    verdict, findings = diagnose(case_of(model, max_new_tokens=4))
    assert verdict.cause is Cause.UNKNOWN
    assert verdict.scores[Cause.SCORER_BUG] == verdict.scores[Cause.EXTRACTION_FAILURE] == 0
    rescued = {row.probe: row.value for row in findings.evidence if row.measurement == "rescued_share"}
    assert (rescued["forced_stop"], rescued["rescoring"]) == (1, 0)


def test_answers_cut_off_by_the_limit_are_truncation_with_the_smallest_budget_that_is_enough() -> None:
    verdict, findings = diagnose(case_of(ToyModel(), max_new_tokens=2))
    assert verdict.cause is Cause.TRUNCATION
    fix = propose(verdict, findings.evidence, training=None)[0]
    assert (fix.kind, [str(one) for one in fix.fixes]) == (Kind.EVALUATION_FIX, ["suite.max_new_tokens=4"])


@pytest.mark.parametrize(("extracts", "cause"), [(True, Cause.SCORER_BUG), (False, Cause.EXTRACTION_FAILURE)])
def test_right_answers_in_another_dress_are_the_scorers_fault(extracts: bool, cause: Cause) -> None:
    model = ToyModel(answers=lambda prompt: answer_of(prompt).upper().replace(" DONE", ": done!"))
    verdict, findings = diagnose(case_of(model, task=ToyTask(extracts=extracts)))
    assert verdict.cause is cause
    assert not model.prompts, "stored outputs were enough"
    assert propose(verdict, findings.evidence, training=None)[0].kind is Kind.NONE


def test_a_second_scorer_that_accepts_anything_shows_no_scorer_bug() -> None:
    class Generous(ToyTask):
        def rescore(self, item, output):  # type: ignore[no-untyped-def]
            return super().score(item, item.target)

    verdict, _ = diagnose(case_of(ToyModel(answers=wrong_on("green")), task=Generous()))
    assert verdict.cause is Cause.UNKNOWN
    assert verdict.scores[Cause.SCORER_BUG] == 0


def test_a_model_that_cannot_do_its_own_corpus_is_undertrained() -> None:
    model = ToyModel(answers=lambda prompt: "no idea", answer_nats=2.5, eos_nats=2.0)
    training = _training(EOS_LABELLED, MASK_RIGHT)
    verdict, findings = diagnose(case_of(model, training=training, corpus=corpus_of(per_colour={"green": 0})))
    assert verdict.cause is Cause.DIVERGED_OR_UNDERTRAINED
    fix = propose(verdict, findings.evidence, training=training)[0]
    assert [str(one) for one in fix.fixes] == ["train.steps=200"]


def test_a_loss_that_grew_asks_for_a_lower_rate() -> None:
    model = ToyModel(answers=lambda prompt: "no idea", answer_nats=2.5, eos_nats=2.0)
    training = _training(EOS_LABELLED, MASK_RIGHT, losses=(2.0, 9.0))
    verdict, findings = diagnose(case_of(model, training=training))
    fix = propose(verdict, findings.evidence, training=training)[0]
    assert fix.fixes[0].setting == "train.learning_rate"
    assert float(fix.fixes[0].value_json) == pytest.approx(training.settings.learning_rate / 3)


@pytest.mark.parametrize(
    ("mask", "fixes"),
    [(Check("label_mask", False, 1.0), ["train.prompt_in_loss=false"]), (Check("label_mask", False, 0.6), [])],
    ids=["prompts carried loss", "answers carried none"],
)
def test_a_wrong_label_mask_and_an_unlearnt_corpus_are_one_cause(mask: Check, fixes: list[str]) -> None:
    model = ToyModel(answers=lambda prompt: "no idea", answer_nats=2.5)
    verdict, findings = diagnose(case_of(model, training=_training(EOS_LABELLED, mask)))
    assert verdict.cause is Cause.LABEL_MASK_WRONG
    proposed = propose(verdict, findings.evidence, training=None)[0]
    assert [str(one) for one in proposed.fixes] == fixes


def test_prompts_in_the_loss_of_a_model_that_learnt_do_not_hide_missing_data() -> None:
    training = _training(EOS_LABELLED, Check("label_mask", False, 1.0))
    case = case_of(ToyModel(answers=wrong_on("green")), corpus=corpus_of(per_colour={"green": 0}), training=training)
    assert diagnose(case)[0].cause is Cause.DATA_MISSING


def test_without_a_model_missing_data_is_not_told_from_a_training_fault() -> None:
    case = case_of(ToyModel(answers=wrong_on("green")), corpus=corpus_of(per_colour={"green": 0}), has_model=False)
    verdict, findings = diagnose(case)
    assert verdict.cause is Cause.UNKNOWN
    assert "DATA_MISSING fits" in verdict.because
    assert "DIVERGED_OR_UNDERTRAINED" in verdict.because
    assert {row.n for row in findings.evidence if row.probe == "token_loss"} == {0}


def test_without_a_corpus_the_verdict_is_unknown() -> None:
    verdict, findings = diagnose(case_of(ToyModel(answers=wrong_on("green")), corpus=[]))
    assert verdict.cause is Cause.UNKNOWN
    assert {row.n for row in findings.evidence if row.probe in ("corpus_coverage", "token_loss")} == {0}


def test_too_few_failures_cost_no_probe() -> None:
    case = replace(case_of(ToyModel(answers=wrong_on("green"))), failed_count=3)
    verdict, findings = diagnose(case)
    assert verdict.cause is Cause.UNKNOWN
    assert "too few failures: 3" in verdict.because
    assert [row.probe for row in findings.evidence] == ["sampling"]


def test_the_same_case_gives_the_same_evidence() -> None:
    first, second = (
        diagnose(case_of(ToyModel(answers=wrong_on("green")), conditions=GREEN))[1].evidence for _ in range(2)
    )
    assert first == second
