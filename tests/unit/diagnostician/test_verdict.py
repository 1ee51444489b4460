"""The rule on hand-made evidence: guards, both samples, abstention, confidence."""

from __future__ import annotations

import pytest

from mendloop.diagnostician.domain.causes import Cause, Family, family_of
from mendloop.diagnostician.domain.evidence import Evidence, exact, measured, missing, share
from mendloop.diagnostician.domain.uncertainty import Estimate
from mendloop.diagnostician.domain.verdict import CLEAR, is_clear, judge
from mendloop.v1 import diagnosis_pb2

N = 24


def _failures(count: int = 60) -> Evidence:
    return exact("sampling", "failed_count", count, max(1, count), reading=".")


def _both(probe: str, measurement: str, hits: int, n: int = N) -> list[Evidence]:
    return [share(probe, measurement, hits, n, reading=f"{hits} of {n}.", sample=name) for name in ("a", "b")]


def _loss(measurement: str, nats: float) -> Evidence:
    return measured("token_loss", measurement, Estimate(nats, nats * 0.9, nats * 1.1), 64, reading=f"{nats} nats.")


def _healthy() -> list[Evidence]:
    """Every training and evaluation cause ruled out."""
    return [
        _failures(),
        *_both("forced_stop", "ran_past_share", 0),
        *_both("forced_stop", "unfinished_share", 0),
        *_both("rescoring", "rescued_share", 0),
        *_both("rescoring", "not_extracted_share", 0),
        _loss("eos_nats", 0.01),
        _loss("answer_nats", 0.01),
    ]


def _uncovered(hits: int = N, sample: str | None = None) -> list[Evidence]:
    failed = _both("corpus_coverage", "unseen_bigram_failed", hits)
    rows = failed + _both("corpus_coverage", "unseen_bigram_passing", 0)
    return [row for row in rows if sample in (None, row.sample)]


def _running_on(*, eos_nats: float, answer_nats: float, past: int = N) -> list[Evidence]:
    """All else healthy; failed outputs run past their end."""
    rows = _without(_without(_healthy(), "token_loss"), "forced_stop")
    losses = [_loss("eos_nats", eos_nats), _loss("answer_nats", answer_nats)]
    stopped = [*_both("forced_stop", "ran_past_share", past), *_both("forced_stop", "unfinished_share", 0)]
    return [*rows, *losses, *stopped]


def _without(rows: list[Evidence], probe: str) -> list[Evidence]:
    return [row for row in rows if row.probe != probe]


def test_names_and_families_mirror_the_published_enums() -> None:
    causes, families = diagnosis_pb2.Cause.DESCRIPTOR, diagnosis_pb2.CauseFamily.DESCRIPTOR
    published = {name.removeprefix("CAUSE_") for name in causes.values_by_name} - {"UNSPECIFIED"}
    assert {cause.value for cause in Cause} == published
    published = {name.removeprefix("CAUSE_FAMILY_") for name in families.values_by_name} - {"UNSPECIFIED"}
    assert {family_of(cause).value for cause in Cause} == published


def test_data_verdict_stands_where_all_else_is_ruled_out() -> None:
    verdict = judge(_healthy() + _uncovered())
    assert (verdict.cause, verdict.family) == (Cause.DATA_MISSING, Family.DATA)
    assert is_clear(_healthy() + _uncovered())


def test_confidence_is_the_lower_end_of_the_deciding_share() -> None:
    strong, weak = judge(_healthy() + _uncovered(24)), judge(_healthy() + _uncovered(21))
    # 24 of 24 failed (.858..1) less 0 of 24 passing (0...142): 1 - hypot(.142, .142)
    assert strong.confidence == pytest.approx(0.799, abs=0.002)
    assert 0.5 < weak.confidence < CLEAR < strong.confidence
    assert not is_clear(_healthy() + _uncovered(21)), "a weak verdict lets the other probes run"


@pytest.mark.parametrize("probe", ["forced_stop", "rescoring", "token_loss"])
def test_data_verdict_is_refused_while_a_cause_is_not_measured(probe: str) -> None:
    verdict = judge(_without(_healthy(), probe) + _uncovered())
    assert verdict.cause is Cause.UNKNOWN
    assert "DATA_MISSING fits" in verdict.because


def test_data_verdict_is_refused_where_a_probe_could_not_run() -> None:
    rows = [*_without(_healthy(), "token_loss"), missing("token_loss", "eos_nats", reading="No model.")]
    assert judge(rows + _uncovered()).cause is Cause.UNKNOWN


def test_data_verdict_is_refused_where_half_the_outputs_run_on() -> None:
    rows = _without(_healthy(), "forced_stop")
    rows += [*_both("forced_stop", "ran_past_share", 12), *_both("forced_stop", "unfinished_share", 12)]
    assert judge(rows + _uncovered()).cause is Cause.UNKNOWN


def test_both_samples_must_agree() -> None:
    rows = _healthy() + _uncovered(24, sample="a") + _uncovered(2, sample="b")
    verdict = judge(rows)
    assert verdict.cause is Cause.UNKNOWN
    assert verdict.confidence == 0
    assert "a says DATA_MISSING, b says UNKNOWN" in verdict.because


def test_the_weaker_sample_sets_the_confidence() -> None:
    one = judge(_healthy() + _uncovered(24, sample="a") + _uncovered(21, sample="b"))
    assert one.confidence == judge(_healthy() + _uncovered(21)).confidence


@pytest.mark.parametrize("count", [0, 3, 11])
def test_few_failures_give_no_verdict(count: int) -> None:
    rows = [_failures(count), *_healthy()[1:], *_uncovered()]
    verdict = judge(rows)
    assert verdict.cause is Cause.UNKNOWN
    assert f"too few failures: {count}" in verdict.because
    assert is_clear(rows)


def test_unseen_bigrams_that_passing_prompts_hold_too_explain_nothing() -> None:
    rows = _both("corpus_coverage", "unseen_bigram_failed", 24) + _both("corpus_coverage", "unseen_bigram_passing", 24)
    assert judge(_healthy() + rows).cause is Cause.UNKNOWN


@pytest.mark.parametrize(("excess", "cause"), [(0.0, Cause.UNKNOWN), (0.9, Cause.DATA_MISSING)])
def test_data_is_missing_in_a_slice_only_where_it_fails_more_than_its_siblings(excess: float, cause: Cause) -> None:
    value = Estimate(excess, excess * 0.9, min(1.0, excess * 1.1))
    rows = [
        measured("corpus_coverage", "excess_failure_share", value, 90, reading="33 of 164.", sample=name)
        for name in ("a", "b")
    ]
    verdict = judge(_healthy() + _uncovered() + rows)
    assert verdict.cause is cause
    assert "33 of 164" in verdict.because


def test_eos_is_masked_where_the_answer_was_learnt_and_its_end_was_not() -> None:
    rows = _running_on(eos_nats=12, answer_nats=0.1)
    assert judge(rows).cause is Cause.EOS_MASKED
    assert is_clear(rows)


def test_data_verdict_is_refused_where_eos_is_lost_though_no_failure_ran_past_its_end() -> None:
    verdict = judge(_running_on(eos_nats=5, answer_nats=0.01, past=0) + _uncovered())
    assert verdict.cause is Cause.UNKNOWN
    assert "others are open: EOS_MASKED" in verdict.because


def test_a_lost_eos_in_a_model_that_learnt_nothing_is_not_masked() -> None:
    unlearnt = share("training_fit", "right_when_cut_share", 0, 24, reading="0 of 24.")
    assert judge([*_running_on(eos_nats=12, answer_nats=4), unlearnt]).cause is Cause.DIVERGED_OR_UNDERTRAINED


def test_truncation_outranks_missing_data() -> None:
    rows = _healthy() + _uncovered() + _both("longer_budget", "rescued_share", 23)
    assert judge(rows).cause is Cause.TRUNCATION


def test_a_share_that_may_be_under_half_gives_no_verdict() -> None:
    assert judge(_healthy() + _both("longer_budget", "rescued_share", 14)).cause is Cause.UNKNOWN


def test_evidence_refuses_impossible_values() -> None:
    with pytest.raises(ValueError, match="outside"):
        Evidence("p", "m", 0.9, 0.1, 0.5, 3, ".")
    with pytest.raises(ValueError, match="finite"):
        Evidence("p", "m", float("nan"), 0.1, 0.5, 3, ".")
