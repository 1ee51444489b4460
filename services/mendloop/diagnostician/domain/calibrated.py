"""The calibrated judge: how likely each cause is, given the evidence; it names one or several, or abstains.

Confidence is the probability that the cause is present, fitted on planted faults. Two guards are no matter of
probability: an unmeasured cause is never named, and a data verdict waits until every other cause is ruled out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mendloop.diagnostician.domain.calibration import CAUSES, Calibration, explained_by, features_of
from mendloop.diagnostician.domain.causes import Cause, Family, family_of
from mendloop.diagnostician.domain.evidence import Evidence
from mendloop.diagnostician.domain.explained import NOTICED, Explained
from mendloop.diagnostician.domain.verdict import Verdict, in_words, still_open, too_few, unknown

SURE = 0.75
"""A cause takes a likelier data cause's place from here on: a wrong verdict costs three times a right one's worth."""
LIKELY = 0.5
"""A sample shows a cause that is its likeliest, likelier than not, or whose share there is more than chance."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the evidence says of every cause: explained shares and probabilities sample by sample, and both together."""

    explained: Sequence[Mapping[Cause, Explained]]
    by_sample: Sequence[Mapping[Cause, float]]
    together: Mapping[Cause, float]

    def is_shared(self, cause: Cause) -> bool:
        """Whether both samples measured the cause and each one shows it."""
        return all(
            shares[cause].is_measured
            and shares[cause].value > 0
            and (row[cause] >= LIKELY or row[cause] == max(row.values()) or shares[cause].low >= NOTICED)
            for shares, row in zip(self.explained, self.by_sample, strict=True)
        )


@dataclass(frozen=True, slots=True)
class CalibratedJudge:
    """A judge with fitted parameters."""

    calibration: Calibration

    def opinion(self, evidence: Sequence[Evidence]) -> Opinion:
        """Probabilities of all causes; nothing is decided."""
        explained = explained_by(evidence)
        features = features_of(explained)
        by_sample = self.calibration.probabilities(features)
        together = self.calibration.probabilities(features.mean(axis=0))
        return Opinion(explained, [_by_cause(row) for row in by_sample], _by_cause(together))

    def __call__(self, evidence: Sequence[Evidence]) -> Verdict:
        """The verdict of the evidence so far."""
        return too_few(evidence) or self.decide(self.opinion(evidence))

    def decide(self, opinion: Opinion) -> Verdict:
        """Which causes to name. What training and evaluation did wrong comes first: the data are judged after it."""
        scores = dict(opinion.together)
        ranked = sorted(CAUSES, key=lambda cause: -scores[cause])
        likeliest, likely = ranked[0], [cause for cause in ranked if scores[cause] >= self.calibration.also_above]
        if scores[likeliest] < self.calibration.abstain_below:
            because = opinion.explained[0][likeliest].because
            return unknown(f"no cause is likely enough; {likeliest} has {scores[likeliest]:.0%}: {because}", scores)
        shared = [cause for cause in dict.fromkeys((likeliest, *likely)) if opinion.is_shared(cause)]
        if not shared:
            return unknown(f"the two samples of failures disagree: {_said(opinion)}.", scores)
        first = _first(shared, scores)
        also = sorted((one for one in shared if one is not first), key=lambda cause: family_of(cause) is Family.DATA)
        because = " ".join(dict.fromkeys(shares[first].because for shares in opinion.explained))
        rest = {cause: None for shares in opinion.explained for cause in still_open(shares, but=first)}
        if family_of(first) is Family.DATA and rest:
            reasons = in_words({cause: _widest(opinion, cause) for cause in rest})
            return unknown(f"{first} fits ({because}) but others are open: {reasons}", scores)
        return Verdict(first, scores[first], scores, because, tuple(also))


def _first(shared: Sequence[Cause], scores: Mapping[Cause, float]) -> Cause:
    """The verdict among the causes that both samples show, likeliest first: data after others that are sure."""
    likeliest = shared[0]
    others = (cause for cause in shared if family_of(cause) is not Family.DATA)
    return next((cause for cause in others if cause is likeliest or scores[cause] >= SURE), likeliest)


def _by_cause(probabilities: Iterable[float]) -> dict[Cause, float]:
    return {cause: float(p) for cause, p in zip(CAUSES, probabilities, strict=True)}


def _said(opinion: Opinion) -> str:
    best = [max(row, key=lambda cause: row[cause]) for row in opinion.by_sample]
    return ", ".join(f"{cause} ({row[cause]:.0%})" for cause, row in zip(best, opinion.by_sample, strict=True))


def _widest(opinion: Opinion, cause: Cause) -> Explained:
    return max((shares[cause] for shares in opinion.explained), key=lambda share: share.high)
