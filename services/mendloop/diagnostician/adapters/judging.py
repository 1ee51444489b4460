"""How the service judges: the shipped calibration with its choice of probes, or the rule where there is none."""

from __future__ import annotations

from dataclasses import dataclass

from mendloop.diagnostician.adapters.calibration import shipped_calibration
from mendloop.diagnostician.domain.calibrated import CalibratedJudge
from mendloop.diagnostician.domain.calibration import Calibration
from mendloop.diagnostician.domain.probing import Choose, IsClear, cheapest
from mendloop.diagnostician.domain.scheduling import InformationPerSecond
from mendloop.diagnostician.domain.verdict import Judge, is_clear, judge


@dataclass(frozen=True, slots=True)
class Judging:
    """A judge with its choice of probes and its rule to stop. description stands in reports."""

    judge: Judge
    choose: Choose
    is_clear: IsClear
    description: str


BY_RULE = Judging(judge, cheapest, is_clear, "by rule: no calibration is installed")


def shipped_judging() -> Judging:
    """The calibrated judge of the package, else the rule. Raises CorruptArtifact for a damaged calibration."""
    calibration = shipped_calibration()
    return calibrated_judging(calibration) if calibration else BY_RULE


def calibrated_judging(calibration: Calibration) -> Judging:
    """The judge of one calibration."""
    policy = InformationPerSecond(CalibratedJudge(calibration))
    sha = str(calibration.provenance.get("cases_sha256", "unknown cases"))[:12]
    words = f"calibrated on {calibration.provenance.get('case_count', '?')} planted cases ({sha})"
    return Judging(policy.judge, policy.choose, policy.is_clear, words)
