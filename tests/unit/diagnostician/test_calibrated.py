"""The calibrated judge: probabilities, abstention, several causes, and the two guards that no probability overrides."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_evidence import FAULTS, HEALTHY, evidence_of, known_cases, without

from mendloop.core.errors import CorruptArtifact
from mendloop.diagnostician.adapters.calibration import load_calibration, shipped_calibration, write_calibration
from mendloop.diagnostician.domain.calibrated import CalibratedJudge
from mendloop.diagnostician.domain.calibration import CAUSES, Calibration
from mendloop.diagnostician.domain.causes import Cause, Family
from mendloop.diagnostician.domain.evidence import exact, missing, share
from mendloop.diagnostician.domain.fitting import fit

PLANTED = tuple(FAULTS)


@pytest.fixture(scope="module")
def judge() -> CalibratedJudge:
    return CalibratedJudge(fit(known_cases(group="x", seeds=range(5)) + known_cases(group="y", seeds=range(5, 10))))


@pytest.mark.parametrize("cause", PLANTED)
def test_each_cause_is_found_in_a_group_that_was_never_fitted(judge: CalibratedJudge, cause: Cause) -> None:
    verdicts = [judge(evidence_of([cause], seed=seed, blur=0.15)) for seed in range(90, 100)]
    assert sum(verdict.cause is cause for verdict in verdicts) >= 8
    assert {verdict.cause for verdict in verdicts} <= {cause, Cause.UNKNOWN}


def test_confidence_is_the_probability_of_the_named_cause(judge: CalibratedJudge) -> None:
    verdict = judge(evidence_of([Cause.SCORER_BUG], seed=1))
    assert verdict.confidence == verdict.scores[Cause.SCORER_BUG] > judge.calibration.abstain_below
    assert set(verdict.scores) == set(CAUSES)


def test_two_faults_at_once_are_both_named_and_data_come_last(judge: CalibratedJudge) -> None:
    verdicts = [judge(evidence_of([Cause.DATA_MISSING, Cause.SCORER_BUG], seed=seed)) for seed in range(90, 100)]
    both = [verdict for verdict in verdicts if Cause.DATA_MISSING in verdict.also]
    assert len(both) >= 5
    assert {verdict.cause for verdict in both} == {Cause.SCORER_BUG}


def test_nothing_shown_gives_no_verdict(judge: CalibratedJudge) -> None:
    verdict = judge(evidence_of([], seed=4))
    assert (verdict.cause, verdict.confidence, verdict.also) == (Cause.UNKNOWN, 0.0, ())
    assert "no cause is likely enough" in verdict.because


@pytest.mark.parametrize(
    ("probe", "cause"),
    [
        ("rescoring", Cause.SCORER_BUG),
        ("reformat", Cause.PROMPT_FORMAT),
        ("target_check", Cause.BENCHMARK_LABEL_ERROR),
        ("earlier_checkpoint", Cause.FORGETTING),
    ],
)
def test_a_data_verdict_is_refused_while_another_cause_is_not_measured(
    judge: CalibratedJudge, probe: str, cause: Cause
) -> None:
    rows = evidence_of([Cause.DATA_MISSING], seed=5)
    assert judge(rows).cause is Cause.DATA_MISSING
    verdict = judge(without(rows, lambda row: row.probe == probe))
    assert verdict.cause is Cause.UNKNOWN
    assert f"others are open: {cause}" in verdict.because


def test_without_an_earlier_checkpoint_nothing_can_have_been_forgotten(judge: CalibratedJudge) -> None:
    rows = without(evidence_of([Cause.DATA_MISSING], seed=5), lambda row: row.probe == "earlier_checkpoint")
    tried = [missing("earlier_checkpoint", "right_share", reading="None is known.", sample=name) for name in ("a", "b")]
    assert judge((*rows, *tried)).cause is Cause.DATA_MISSING


def test_both_samples_must_show_the_cause(judge: CalibratedJudge) -> None:
    rows = without(evidence_of([Cause.SCORER_BUG], seed=6), lambda row: (row.probe, row.sample) == ("rescoring", "b"))
    healthy = [share("rescoring", "rescued_share", 0, 24, reading=".", sample="b")]
    assert judge((*rows, *healthy)).cause is Cause.UNKNOWN


def test_few_failures_give_no_verdict(judge: CalibratedJudge) -> None:
    rows = without(evidence_of([Cause.SCORER_BUG], seed=6), lambda row: row.probe == "sampling")
    verdict = judge((exact("sampling", "failed_count", 3, 3, reading="."), *rows))
    assert "too few failures: 3" in verdict.because


@given(seed=st.integers(0, 10**6), blur=st.floats(0, 1), causes=st.sets(st.sampled_from(PLANTED), max_size=3))
def test_probabilities_are_probabilities_and_the_order_of_evidence_does_not_matter(
    judge: CalibratedJudge, seed: int, blur: float, causes: set[Cause]
) -> None:
    rows = list(evidence_of(sorted(causes), seed=seed, blur=blur))
    before = judge(rows)
    assert all(0 <= p <= 1 for p in before.scores.values())
    random.Random(seed).shuffle(rows)
    assert judge(rows) == before


@given(seed=st.integers(0, 10**6), probes=st.sets(st.sampled_from(sorted({probe for probe, _ in HEALTHY}))))
def test_what_was_not_measured_is_never_named(judge: CalibratedJudge, seed: int, probes: set[str]) -> None:
    causes = random.Random(seed).sample(PLANTED, 2)
    rows = without(evidence_of(causes, seed=seed), lambda row: row.probe in probes)
    verdict, explained = judge(rows), judge.opinion(rows).explained
    for cause in {verdict.cause, *verdict.also} - {Cause.UNKNOWN}:
        assert all(shares[cause].is_measured for shares in explained)
    assert verdict.family is not Family.DATA or not probes & {"rescoring", "reformat", "target_check"}


def test_a_probe_that_could_not_run_counts_like_one_that_was_not_tried(judge: CalibratedJudge) -> None:
    rows = without(evidence_of([Cause.SCORER_BUG], seed=7), lambda row: row.probe == "paraphrase")
    tried = [missing("paraphrase", "rescued_share", reading="No model.", sample=name) for name in ("a", "b")]
    assert judge((*rows, *tried)) == judge(rows)


def test_a_calibration_survives_its_file(judge: CalibratedJudge, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    write_calibration(judge.calibration, path)
    assert load_calibration(path) == judge.calibration
    first = path.read_bytes()
    write_calibration(load_calibration(path), path)
    assert path.read_bytes() == first


def _changed(text: str) -> str:
    document = json.loads(text)
    document["abstain_below"] = 0.01
    return json.dumps(document)


@pytest.mark.parametrize(
    "damage",
    [lambda text: text[:200], _changed, lambda text: "[]", lambda text: '{"format": 1}'],
    ids=["cut", "changed", "a list", "fields lack"],
)
def test_a_damaged_calibration_is_refused(judge: CalibratedJudge, tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "calibration.json"
    write_calibration(judge.calibration, path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(CorruptArtifact, match=r"cannot be read: .*fit it again"):
        load_calibration(path)


def test_impossible_parameters_are_refused(judge: CalibratedJudge) -> None:
    with pytest.raises(ValueError, match="abstain_below is 2"):
        Calibration(judge.calibration.shared, judge.calibration.deviations, 2.0, 0.5)
    with pytest.raises(ValueError, match="finite numbers"):
        Calibration((float("nan"),) * 10, judge.calibration.deviations, 0.5, 0.5)


def test_the_shipped_calibration_reads_where_there_is_one() -> None:
    shipped = shipped_calibration()
    assert shipped is None or set(shipped.deviations) == set(CAUSES)
