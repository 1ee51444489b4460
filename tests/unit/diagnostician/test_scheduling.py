"""The next probe is the one that should bring most per second; probing stops where the rest would change nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from planted_evidence import FAULTS, evidence_of, known_cases

from mendloop.diagnostician.domain.calibrated import CalibratedJudge
from mendloop.diagnostician.domain.case import Case
from mendloop.diagnostician.domain.causes import Cause
from mendloop.diagnostician.domain.evidence import Cost, Evidence, exact
from mendloop.diagnostician.domain.fitting import fit
from mendloop.diagnostician.domain.probe_records import by_probe_of, probe_records
from mendloop.diagnostician.domain.probing import CostClass, Probe, cheapest
from mendloop.diagnostician.domain.scheduling import InformationPerSecond

SECONDS = {"rescoring": 0.01, "forced_stop": 0.01, "token_loss": 0.3, "reformat": 1.0, "paraphrase": 2.0}


@dataclass
class Named:
    """A probe that is only chosen, never run."""

    name: str
    cost_class: CostClass = CostClass.GENERATED

    def run(self, case: Case) -> tuple[Evidence, ...]:
        raise AssertionError(f"{self.name} must not run for {case}")


def _with_cost(rows: tuple[Evidence, ...]) -> tuple[Evidence, ...]:
    return tuple(
        replace(row, cost=Cost(SECONDS.get(own[0].probe, 1.0), 10) if at == 0 else Cost())
        for own in by_probe_of(rows).values()
        for at, row in enumerate(own)
    )


@pytest.fixture(scope="module")
def policy() -> InformationPerSecond:
    cases = known_cases(group="x", seeds=range(3)) + known_cases(group="y", seeds=range(3, 6))
    calibration = fit(cases)
    records = probe_records([_with_cost(case.evidence) for case in cases], CalibratedJudge(calibration), seed=0)
    return InformationPerSecond(CalibratedJudge(replace(calibration, probes=records)))


def _named(*names: str) -> list[Probe]:
    return [Named(name) for name in names]


def test_records_hold_mean_cost_and_what_was_resolved(policy: InformationPerSecond) -> None:
    record = policy.judge.calibration.probes["rescoring"]
    assert record.wall_s == pytest.approx(0.01)
    assert record.resolved[Cause.SCORER_BUG] > 0.5
    assert record.resolved[Cause.SCORER_BUG] > record.resolved[Cause.BENCHMARK_LABEL_ERROR]


def test_of_two_probes_that_bring_as_much_the_faster_is_chosen(policy: InformationPerSecond) -> None:
    start = evidence_of([], seed=1)[:1]
    assert policy.choose(start, _named("paraphrase", "reformat", "rescoring")).name == "rescoring"


def test_what_is_already_known_is_not_asked_again(policy: InformationPerSecond) -> None:
    rows = evidence_of([Cause.PHRASING_MISMATCH], seed=1)
    known = tuple(row for row in rows if row.probe != "paraphrase")
    assert policy.choose(known, _named("reformat", "target_check", "paraphrase")).name == "paraphrase"


def test_a_probe_without_a_record_is_tried_by_its_cost(policy: InformationPerSecond) -> None:
    waiting = [Named("new", CostClass.SEARCHED), Named("newer", CostClass.STORED)]
    assert policy.choose(evidence_of([], seed=1)[:1], waiting).name == "newer"
    assert cheapest((), waiting).name == "newer"


@pytest.mark.parametrize("cause", list(FAULTS))
def test_all_evidence_is_clear_where_there_is_a_verdict(policy: InformationPerSecond, cause: Cause) -> None:
    rows = evidence_of([cause], seed=3)
    assert policy.is_clear(rows) == (policy.judge(rows).cause is not Cause.UNKNOWN)


def test_probing_goes_on_while_no_verdict_stands(policy: InformationPerSecond) -> None:
    assert not policy.is_clear(evidence_of([], seed=1))
    assert not policy.is_clear(evidence_of([Cause.DATA_MISSING], seed=1)[:4])


def test_probing_goes_on_where_what_is_left_often_changes_such_a_verdict(policy: InformationPerSecond) -> None:
    rows = tuple(row for row in evidence_of([Cause.SCORER_BUG], seed=3) if row.probe != "reformat")
    calibration = policy.judge.calibration
    for turned, is_clear in ((0.0, True), (0.5, False)):
        record = replace(calibration.probes["reformat"], turned=dict.fromkeys(Cause, turned))
        changed = replace(calibration, probes={**calibration.probes, "reformat": record})
        assert InformationPerSecond(CalibratedJudge(changed)).is_clear(rows) == is_clear


def test_a_handful_of_failures_is_clear_at_once(policy: InformationPerSecond) -> None:
    assert policy.is_clear((exact("sampling", "failed_count", 3, 3, reading="."),))
