"""How far verdicts can be believed, by what became of their fixes. Pure: views in, counts out.

A case is a verdict that named a cause, and whether its slice then improved significantly under the gate of the round
that acted on it. A right verdict's fix may still fail, and a wrong one's may help by chance: so the difference between
mean confidence and share improved is no error of the verdicts. What it is good for is its drift on one kind of run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mendloop.core.intervals import Interval, clopper_pearson
from mendloop.runs.model import RoundView, RunView

TARGET_GATE = "target_improves"
ABSTAINED = "UNKNOWN"
MOST_CASES = 500


class Case(NamedTuple):
    """A verdict's slice and confidence, and whether the slice improved."""

    slice_id: str
    confidence: float
    improved: bool


class Calibration(NamedTuple):
    """Over n cases: mean confidence, share improved, and the exact 95 % interval of that share."""

    n: int
    confidence: float
    improved: float
    interval: Interval


def cases_of(view: RunView, decided: RoundView) -> list[Case]:
    """The cases of one decided round: its target gates, and the newest earlier verdict on each of their slices."""
    if decided.decision is None:
        return []
    verdicts = {
        diagnosis.slice.slice_id: diagnosis
        for part in view.rounds
        if part.number < decided.number
        for diagnosis in part.diagnoses
    }
    return [
        Case(gate.slice.slice_id, verdict.confidence, gate.passed)
        for gate in decided.decision.gates
        if gate.gate == TARGET_GATE
        and (verdict := verdicts.get(gate.slice.slice_id)) is not None
        and verdict.cause != ABSTAINED
    ]


def calibration(cases: Sequence[Case]) -> Calibration | None:
    """The figures over all cases; None where there is none."""
    if not cases:
        return None
    improved = sum(case.improved for case in cases)
    return Calibration(
        n=len(cases),
        confidence=sum(case.confidence for case in cases) / len(cases),
        improved=improved / len(cases),
        interval=clopper_pearson(improved, len(cases)),
    )
