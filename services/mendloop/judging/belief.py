"""How far the detectors of a suite can be believed: measured before the first score, applied to the last one.

Knows measured errors and outcomes; knows neither models nor stores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from mendloop.core.records import Outcome
from mendloop.core.stats import Interval
from mendloop.judging.error import Corrected, JudgeError, Rate, Stability, corrected_rate

Document = dict[str, Any]
BY_DEFINITION = "rule"
"""The kind of detector that defines what it detects: its verdicts are not corrected."""


@dataclass(frozen=True, slots=True)
class Detector:
    """A measured detector: whose verdicts are those on items with the value `value` on `axis`.

    flags: in words, what is doubtful about it though it was admitted.
    """

    axis: str
    value: str
    kind: str
    error: JudgeError
    stability: Stability | None = None
    flags: tuple[str, ...] = ()

    def document(self) -> Document:
        """The detector as JSON values."""
        error, stability = self.error, self.stability
        return {
            "axis": self.axis,
            "value": self.value,
            "kind": self.kind,
            "sensitivity": _json(error.sensitivity),
            "specificity": _json(error.specificity),
            "held_back": _json(error.held_back),
            "unanswered_count": error.unanswered_count,
            "self_agreement": _json(stability.self_agreement if stability else None),
            "swap_agreement": _json(stability.swap_agreement if stability else None),
            "first_share": _json(stability.first_share if stability else None),
            "flags": list(self.flags),
        }

    @staticmethod
    def read(document: Document) -> Detector:
        """The detector of a document."""
        sensitivity, specificity = _rate(document["sensitivity"]), _rate(document["specificity"])
        assert sensitivity is not None
        assert specificity is not None
        error = JudgeError(
            sensitivity, specificity, document["unanswered_count"], held_back=_rate(document["held_back"])
        )
        agreement = _rate(document["self_agreement"])
        swap, first = _rate(document["swap_agreement"]), _rate(document["first_share"])
        stability = Stability(agreement, swap, first) if agreement else None
        place = (document["axis"], document["value"], document["kind"])
        return Detector(*place, error, stability, tuple(document["flags"]))


class Believed(Protocol):
    """A task family whose scores come from detectors that were measured."""

    def detectors(self) -> list[Detector]:
        """Every detector, measured now. Raises Permanent for one that errs too much or contradicts itself."""


def detectors_of(task: object) -> list[Detector]:
    """The measured detectors of a family (its method `detectors`); none for a family that has no such thing."""
    return cast(Believed, task).detectors() if hasattr(task, "detectors") else []


def judged(detectors: Sequence[Detector], outcomes: Sequence[Outcome]) -> list[Document]:
    """Each detector's document with n, the rate that it saw (`observed`) and the true one behind it (`corrected`).

    Counted is what the detector judged: an output without text is a failure that nobody judged. See corrected_rate.
    """
    return [{**detector.document(), **_rates(detector, outcomes)} for detector in detectors]


def words(document: Document) -> str:
    """One line for a person."""
    where = f"{document['axis']} {document['value']} ({document['kind']})"
    if not document["n"]:
        return f"{where}: nothing was judged"
    parts = [f"{where}: kept in {document['observed']:.1%} of {document['n']} judged outputs"]
    corrected = document["corrected"]
    if corrected is not None:
        parts.append(
            f"corrected for its error {corrected['value']:.1%} [{corrected['low']:.1%}, {corrected['high']:.1%}]"
        )
    for name in ("sensitivity", "specificity", "self_agreement", "swap_agreement"):
        rate = document[name]
        if rate is not None and corrected is not None:
            parts.append(f"{name.replace('_', ' ')} {rate['value']:.2f} (n {rate['n']})")
    return "; ".join((*parts, *document["flags"]))


def _rates(detector: Detector, outcomes: Sequence[Outcome]) -> Document:
    own = [row for row in outcomes if detector.value in row.axes.get(detector.axis, ())]
    seen = [row for row in own if row.extraction.partition(":")[0] == detector.kind]
    accepted = sum(row.is_correct for row in seen)
    corrected = None
    if seen and detector.kind != BY_DEFINITION and detector.error.informedness > 0:
        corrected = _corrected(corrected_rate(accepted, len(seen), error=detector.error))
    return {
        "n": len(seen),
        "not_judged_count": len(own) - len(seen),
        "observed": accepted / len(seen) if seen else None,
        "corrected": corrected,
    }


def _corrected(found: Corrected) -> Document:
    return {"value": found.value, "low": found.interval.low, "high": found.interval.high}


def _json(rate: Rate | None) -> Document | None:
    if rate is None:
        return None
    return {"value": rate.value, "n": rate.n, "low": rate.interval.low, "high": rate.interval.high}


def _rate(document: Document | None) -> Rate | None:
    if document is None:
        return None
    return Rate(document["value"], document["n"], Interval(document["low"], document["high"]))
