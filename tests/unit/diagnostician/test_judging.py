"""The service judges by the calibration that is installed, and by rule where there is none."""

from __future__ import annotations

import pytest
from planted_evidence import evidence_of, known_cases

from mendloop.diagnostician.adapters import judging
from mendloop.diagnostician.domain.causes import Cause
from mendloop.diagnostician.domain.fitting import fit
from mendloop.diagnostician.domain.verdict import judge


def test_without_a_calibration_the_rule_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "shipped_calibration", lambda: None)
    assert judging.shipped_judging() is judging.BY_RULE
    assert judging.BY_RULE.judge is judge


def test_an_installed_calibration_judges_with_its_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    calibration = fit(known_cases(group="x", seeds=range(3)) + known_cases(group="y", seeds=range(3, 6)))
    monkeypatch.setattr(judging, "shipped_calibration", lambda: calibration)
    installed = judging.shipped_judging()
    verdict = installed.judge(evidence_of([Cause.SCORER_BUG], seed=1))
    assert verdict.cause is Cause.SCORER_BUG
    assert verdict.scores[Cause.SCORER_BUG] == verdict.confidence
    assert installed.is_clear(evidence_of([Cause.SCORER_BUG], seed=1))
