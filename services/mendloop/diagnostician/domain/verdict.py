"""The verdict, and the judge by rule: which cause explains most failures of both samples, or none.

The rule's confidence is the lower end of the 95 % interval of the share of failures that the cause explains, on the
weaker of the two samples: a bound on one measurement. A calibrated judge (calibrated.py) gives a probability instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mendloop.diagnostician.domain.case import SAMPLE_NAMES
from mendloop.diagnostician.domain.causes import Cause, Family, family_of
from mendloop.diagnostician.domain.evidence import Evidence, Table
from mendloop.diagnostician.domain.explanations import RULES, Explained, Explanation
from mendloop.diagnostician.domain.probing import FAILED_COUNT, SAMPLING

MOST = 0.5
"""A verdict explains most failures at its lower end; a cause is ruled out where it cannot explain most at its upper."""
CLEAR = 0.7
"""From here on no further probe is paid for: 24 of 24 gives .86, 22 of 24 .73; below it the rest still runs."""
MIN_FAILURES = 12
"""Six a sample: six of six is the smallest unanimous sample whose lower end (.54) passes MOST; five of five has .48."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A cause with its confidence, the scores of all causes that were considered, and why in one sentence."""

    cause: Cause
    confidence: float
    scores: dict[Cause, float]
    because: str
    also: tuple[Cause, ...] = ()
    """Further causes that the evidence shows beside this one, likeliest first."""

    @property
    def family(self) -> Family:
        """Who has to act."""
        return family_of(self.cause)


class Judge(Protocol):
    """Turns evidence into a verdict. The rule here is the first; a calibrated model takes the same place."""

    def __call__(self, evidence: Sequence[Evidence]) -> Verdict:
        """The verdict of the evidence so far."""


def judge(evidence: Sequence[Evidence], *, rules: Mapping[Cause, Explanation] = RULES) -> Verdict:
    """The verdict by rule: the same cause on both samples, else UNKNOWN."""
    refusal = too_few(evidence)
    if refusal:
        return refusal
    tables = {name: _explained(Table(evidence, sample=name), rules) for name in SAMPLE_NAMES}
    scores = {cause: min(table[cause].low for table in tables.values()) for cause in rules}
    verdicts = {name: _of_sample(table) for name, table in tables.items()}
    causes = {verdict.cause for verdict in verdicts.values()}
    if len(causes) > 1:
        said = ", ".join(f"{name} says {verdict.cause}" for name, verdict in verdicts.items())
        open_points = " ".join(verdict.because for verdict in verdicts.values() if verdict.cause is Cause.UNKNOWN)
        return unknown(f"the two samples of failures disagree: {said}. {open_points}".rstrip(), scores)
    weakest = min(verdicts.values(), key=lambda verdict: verdict.confidence)
    return Verdict(weakest.cause, weakest.confidence, scores, weakest.because)


def is_clear(evidence: Sequence[Evidence]) -> bool:
    """Whether probing may stop: too few failures, or a verdict that later probes are not needed for.

    A data verdict exists only once every training and evaluation cause is ruled out, so it waits for their probes.
    """
    verdict = judge(evidence)
    return not verdict.scores or (verdict.cause is not Cause.UNKNOWN and verdict.confidence >= CLEAR)


@dataclass(frozen=True, slots=True)
class _SampleVerdict:
    cause: Cause
    confidence: float
    because: str


def _explained(table: Table, rules: Mapping[Cause, Explanation]) -> dict[Cause, Explained]:
    return {cause: rule(table) for cause, rule in rules.items()}


def _of_sample(explained: dict[Cause, Explained]) -> _SampleVerdict:
    others = [cause for cause in explained if family_of(cause) is not Family.DATA]
    data = [cause for cause in explained if family_of(cause) is Family.DATA]
    for group in (others, data):
        best = max(group, key=lambda cause: explained[cause].low)
        shown = explained[best]
        if shown.low < MOST:
            continue
        rest = still_open(explained, but=best) if group is data else []
        if rest:
            reasons = in_words({cause: explained[cause] for cause in rest})
            return _SampleVerdict(Cause.UNKNOWN, 0.0, f"{best} fits ({shown.because}) but others are open: {reasons}")
        return _SampleVerdict(best, shown.low, shown.because)
    nearest = max(explained, key=lambda cause: (explained[cause].low, explained[cause].high))
    low, because = explained[nearest].low, explained[nearest].because
    return _SampleVerdict(
        Cause.UNKNOWN, 0.0, f"no cause explains most failures; {nearest} explains at least {low:.0%}: {because}"
    )


def too_few(evidence: Sequence[Evidence]) -> Verdict | None:
    """The refusal to judge a handful of failures; None where there are enough."""
    failed = next((int(row.value) for row in evidence if (row.probe, row.measurement) == (SAMPLING, FAILED_COUNT)), 0)
    if failed >= MIN_FAILURES:
        return None
    return unknown(f"too few failures: {failed}; {MIN_FAILURES} are needed to tell causes apart.", {})


def still_open(explained: Mapping[Cause, Explained], *, but: Cause) -> list[Cause]:
    """Causes outside the data that may explain most failures: while there is one, no data verdict stands."""
    return [
        cause
        for cause, share in explained.items()
        if family_of(cause) is not Family.DATA and cause is not but and share.high >= MOST
    ]


def in_words(explained: Mapping[Cause, Explained]) -> str:
    """Why each cause is thought so; causes with the same reason share its sentence."""
    groups: dict[str, list[Cause]] = {}
    for cause, share in explained.items():
        groups.setdefault(share.because, []).append(cause)
    return " ".join(f"{', '.join(causes)}: {because}" for because, causes in groups.items())


def unknown(because: str, scores: dict[Cause, float]) -> Verdict:
    """An abstention."""
    return Verdict(Cause.UNKNOWN, 0.0, scores, because)
