"""What each cause explains on hand-made evidence: which measurement shows it, and which rival takes its share."""

from __future__ import annotations

import pytest
from planted_evidence import evidence_of, without

from mendloop.diagnostician.domain.calibration import CAUSES
from mendloop.diagnostician.domain.causes import Cause
from mendloop.diagnostician.domain.evidence import Evidence, Table, exact, measured, missing, share
from mendloop.diagnostician.domain.explanations import EXPLANATIONS, explain
from mendloop.diagnostician.domain.uncertainty import Estimate

N = 24
UNLEARNT = (
    share("training_fit", "right_when_cut_share", 2, N, reading="2 of 24."),
    measured("token_loss", "answer_nats", Estimate(1.5, 1.2, 1.8), 64, reading="1.5 nats."),
)


def _share(probe: str, measurement: str, hits: int, n: int = N) -> Evidence:
    return share(probe, measurement, hits, n, reading=f"{hits} of {n}.", sample="a")


def _exact(probe: str, measurement: str, value: float) -> Evidence:
    return exact(probe, measurement, value, 100, reading=f"{value}.")


def _value(cause: Cause, *rows: Evidence) -> float:
    return explain(Table(rows, sample="a"))[cause].value


def test_every_cause_but_unknown_has_an_explanation() -> None:
    assert set(EXPLANATIONS) == set(CAUSES) == set(Cause) - {Cause.UNKNOWN}


def test_without_evidence_nothing_is_shown_and_nothing_is_ruled_out() -> None:
    for cause, explained in explain(Table((), sample="a")).items():
        assert (explained.low, explained.value, explained.high) == (0, 0, 1), cause
        assert not explained.is_measured


@pytest.mark.parametrize("causes", [[], [Cause.TRUNCATION], [Cause.PROMPT_FORMAT, Cause.DATA_MISSING]])
def test_shares_are_ordered_shares(causes: list[Cause]) -> None:
    for drop in ("", "pass_at_k", "longer_budget", "corpus_coverage"):
        rows = without(evidence_of(causes, seed=2), lambda row, drop=drop: row.probe == drop)  # type: ignore[misc]
        for cause, one in explain(Table(rows, sample="a")).items():
            assert 0 <= one.low <= one.value <= one.high <= 1, cause


@pytest.mark.parametrize(
    ("curve", "cause"),
    [
        ({"late_drop": 0.3, "rise": 1.0, "is_finite": 1.0, "last_nats": 1.4}, Cause.DIVERGED_OR_UNDERTRAINED),
        ({"late_drop": -0.5, "rise": 2.0, "is_finite": 1.0, "last_nats": 4.0}, Cause.DIVERGED_OR_UNDERTRAINED),
        ({"late_drop": 0.0, "rise": 1.0, "is_finite": 0.0, "last_nats": 100.0}, Cause.DIVERGED_OR_UNDERTRAINED),
        ({"late_drop": 0.01, "rise": 1.0, "is_finite": 1.0, "last_nats": 1.4}, Cause.CAPACITY),
    ],
    ids=["still falling", "risen", "not a number", "at rest"],
)
def test_the_loss_curve_tells_a_small_model_from_a_short_training(curve: dict[str, float], cause: Cause) -> None:
    rows = [*UNLEARNT, *(_exact("loss_curve", name, value) for name, value in curve.items())]
    other = {Cause.CAPACITY, Cause.DIVERGED_OR_UNDERTRAINED} - {cause}
    assert _value(cause, *rows) > 0.8
    assert _value(other.pop(), *rows) == 0


def test_a_model_worse_than_its_training_ended_is_neither_small_nor_undertrained() -> None:
    rows = [*UNLEARNT, _exact("loss_curve", "late_drop", 0.0), _exact("loss_curve", "last_nats", 0.02)]
    assert _value(Cause.CAPACITY, *rows) == _value(Cause.DIVERGED_OR_UNDERTRAINED, *rows) == 0


def test_what_a_faulty_scorer_rejects_was_learnt_all_the_same() -> None:
    rejected = [_share("rescoring", "rescued_share", 22), _share("rescoring", "not_extracted_share", 0)]
    assert _value(Cause.DIVERGED_OR_UNDERTRAINED, *UNLEARNT) > 0.8
    assert _value(Cause.DIVERGED_OR_UNDERTRAINED, *UNLEARNT, *rejected) < 0.1


def test_what_was_right_before_is_forgotten_only_where_the_corpus_lacks_it() -> None:
    right = _share("earlier_checkpoint", "right_share", 23)
    lacking = _exact("corpus_coverage", "representation_ratio", 0.0)
    holding = [_exact("corpus_coverage", name, 0.9) for name in ("representation_ratio", "sibling_ratio")]
    assert _value(Cause.FORGETTING, right, lacking) > 0.9
    assert explain(Table([right, *holding], sample="a"))[Cause.FORGETTING].high == 0


def test_data_that_the_model_once_knew_are_not_missing() -> None:
    unseen = [
        _share("corpus_coverage", "unseen_bigram_failed", 24),
        _share("corpus_coverage", "unseen_bigram_passing", 0),
    ]
    assert _value(Cause.DATA_MISSING, *unseen) == 1
    assert _value(Cause.DATA_MISSING, *unseen, _share("earlier_checkpoint", "right_share", 24)) == 0
    assert _value(Cause.DATA_MISSING, *unseen, _share("paraphrase", "rescued_share", 24)) == 0


def test_an_unseen_term_is_a_gap_of_knowledge_and_an_unseen_combination_is_missing_data() -> None:
    bigrams = [
        _share("corpus_coverage", f"unseen_bigram_{name}", hits) for name, hits in (("failed", 24), ("passing", 1))
    ]
    terms = [_share("corpus_coverage", f"unseen_term_{name}", hits) for name, hits in (("failed", 24), ("passing", 0))]
    known = [_share("corpus_coverage", f"unseen_term_{name}", 0) for name in ("failed", "passing")]
    assert _value(Cause.KNOWLEDGE_GAP, *bigrams, *terms) == 1
    assert _value(Cause.DATA_MISSING, *bigrams, *terms) < 0.1
    assert _value(Cause.KNOWLEDGE_GAP, *bigrams, *known) == 0
    assert _value(Cause.DATA_MISSING, *bigrams, *known) > 0.9


def test_what_asking_again_makes_right_is_no_counterfactuals_doing() -> None:
    reworded = _share("paraphrase", "rescued_share", 20)
    assert _value(Cause.PHRASING_MISMATCH, reworded) > 0.8
    assert _value(Cause.PHRASING_MISMATCH, reworded, _share("pass_at_k", "mean_right_share", 20)) == 0


def test_given_steps_show_a_gap_of_reasoning_only_in_outputs_that_were_not_cut_off() -> None:
    given = _share("first_steps", "rescued_share", 23)
    assert _value(Cause.REASONING_GAP, given) > 0.9
    assert _value(Cause.REASONING_GAP, given, _share("longer_budget", "rescued_share", 23)) < 0.1
    assert _value(Cause.REASONING_GAP, given, UNLEARNT[0]) < 0.1


def test_wrong_labels_of_the_slice_count_beyond_those_of_the_rest() -> None:
    wrong = _share("label_noise", "wrong_label_share", 30, 100)
    assert _value(Cause.DATA_CORRUPTED, wrong, _share("label_noise", "rest_wrong_label_share", 0, 100)) == 1
    assert _value(Cause.DATA_CORRUPTED, wrong, _share("label_noise", "rest_wrong_label_share", 30, 100)) == 0


def test_items_that_only_leaked_ones_get_right_are_contaminated_not_missing() -> None:
    gap = measured("leakage", "fresh_gap", Estimate(0.95, 0.8, 1.0), 60, reading="30 of 30, 1 of 30.", sample="a")
    unseen = [
        _share("corpus_coverage", "unseen_bigram_failed", 24),
        _share("corpus_coverage", "unseen_bigram_passing", 0),
    ]
    assert _value(Cause.CONTAMINATION, gap) > 0.9
    assert _value(Cause.DATA_MISSING, *unseen, gap) < 0.1
    nothing = explain(Table([_share("leakage", "leaked_failed", 0)], sample="a"))[Cause.CONTAMINATION]
    assert (nothing.high, nothing.is_measured) == (0, True)


def test_training_examples_likelier_under_another_template_show_it_whatever_else_fails() -> None:
    nothing = _share("template_parity", "rescued_share", 0)
    gain = measured("template_parity", "corpus_gain_nats", Estimate(0.8, 0.6, 1.0), 64, reading="0.8 nats.")
    same = _exact("template_parity", "template_differs", 0.0)
    assert _value(Cause.TEMPLATE_MISMATCH, *UNLEARNT, nothing, gain) > 0.8
    assert _value(Cause.DIVERGED_OR_UNDERTRAINED, *UNLEARNT, nothing, gain) == 0
    assert _value(Cause.TEMPLATE_MISMATCH, *UNLEARNT, nothing, gain, same) == 0


def test_a_row_that_could_not_be_made_hides_no_row_that_was() -> None:
    made = _share("first_steps", "rescued_share", 23)
    tried = missing("first_steps", "rescued_share", reading="No model.", sample="a")
    assert _value(Cause.REASONING_GAP, made, tried) == _value(Cause.REASONING_GAP, tried, made) > 0.9


def test_examples_without_steps_show_a_gap_of_reasoning_even_where_they_were_not_learnt() -> None:
    given = _share("first_steps", "rescued_share", 24)
    bare = [_share("step_coverage", "stepless_share", 95, 100), _share("step_coverage", "rest_stepless_share", 0, 100)]
    assert _value(Cause.REASONING_GAP, given, UNLEARNT[0], *bare) > 0.9


def _halves(first: float, last: float, eos: float) -> list[Evidence]:
    rows = {"first_answer_nats": first, "last_answer_nats": last, "eos_nats": eos}
    estimates = {name: Estimate(nats, nats * 0.9, nats * 1.1) for name, nats in rows.items()}
    return [measured("token_loss", name, one, 64, reading=".") for name, one in estimates.items()]


def test_a_beginning_that_was_never_asked_for_shows_a_wrong_mask_without_a_report() -> None:
    halves = _halves(11.0, 9.0, 0.001)
    assert _value(Cause.LABEL_MASK_WRONG, *UNLEARNT, *halves) > 0.8
    assert _value(Cause.DIVERGED_OR_UNDERTRAINED, *UNLEARNT, *halves) == 0
    assert _value(Cause.LABEL_MASK_WRONG, *UNLEARNT) == 0


def test_answers_that_begin_at_random_and_go_on_as_learnt_show_a_template_that_nobody_names() -> None:
    nothing = _share("template_parity", "rescued_share", 0)
    halves = _halves(0.9, 0.01, 0.001)
    assert _value(Cause.TEMPLATE_MISMATCH, *UNLEARNT, nothing, *halves) > 0.8
    assert _value(Cause.DIVERGED_OR_UNDERTRAINED, *UNLEARNT, nothing, *halves) == 0
    assert _value(Cause.TEMPLATE_MISMATCH, *UNLEARNT, nothing, *_halves(0.9, 0.6, 0.3)) == 0


def test_a_wording_that_the_corpus_holds_is_no_mismatch() -> None:
    reworded = _share("paraphrase", "rescued_share", 20)
    known = [_share("corpus_coverage", f"unseen_{what}_failed", 0) for what in ("term", "bigram")]
    assert _value(Cause.PHRASING_MISMATCH, reworded, *known) == 0


def test_what_steps_rescue_leaves_the_rest_to_other_causes_but_those_of_the_scorer() -> None:
    rows = (_share("first_steps", "elicited_rescued_share", 23), _share("first_steps", "elicited_broken_share", 1, 40))
    found = explain(Table(rows, sample="a"))
    assert found[Cause.REASONING_GAP].low > 0.6
    assert found[Cause.TEMPLATE_MISMATCH].high == found[Cause.PROMPT_FORMAT].high < 0.3
    assert found[Cause.SCORER_BUG].high == 1


def test_answers_that_steps_make_right_as_often_as_wrong_are_guesses() -> None:
    rows = (
        _share("first_steps", "elicited_rescued_share", 12),
        _share("first_steps", "elicited_broken_share", 20, 40),
    )
    found = explain(Table(rows, sample="a"))
    assert found[Cause.REASONING_GAP].value == 0
    assert found[Cause.TEMPLATE_MISMATCH].high == 1
