"""Figures of judged cases: accuracy, abstention, false data verdicts, calibration, risk against coverage, cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np
from diagnosis_cases import PlantedCase

from mendloop.core.stats import clopper_pearson
from mendloop.diagnostician.domain.causes import Cause, Family, family_of
from mendloop.diagnostician.domain.verdict import Verdict

RESAMPLES = 2000
BINS = 10
FAULTY = (Family.TRAINING, Family.EVALUATION)


@dataclass(frozen=True)
class Judged:
    """A case and what a judge said that was not fitted on its family."""

    case: PlantedCase
    verdict: Verdict
    forced: Verdict
    """The verdict without the threshold: what it would have said had it not been allowed to abstain for doubt."""
    seconds: float
    tokens: float

    @property
    def is_right(self) -> bool:
        return self.verdict.cause in self.case.causes

    @property
    def abstains(self) -> bool:
        return self.verdict.cause is Cause.UNKNOWN

    @property
    def named(self) -> frozenset[Cause]:
        return frozenset({self.verdict.cause, *self.verdict.also}) - {Cause.UNKNOWN}


def share(hits: int, n: int) -> dict[str, float]:
    """A proportion with its exact 95 % interval."""
    low, high = clopper_pearson(hits, n)
    return {"value": hits / n if n else float("nan"), "low": low, "high": high, "hits": hits, "n": n}


def macro(rows: Sequence[Judged], *, seed: int = 0) -> dict[str, float]:
    """Mean over causes of the accuracy of the verdicts that were given; bootstrap over cases within causes."""
    answered = [row for row in rows if row.case.is_single and not row.abstains]
    by_cause: dict[Cause, list[float]] = {}
    for row in answered:
        by_cause.setdefault(row.case.cause, []).append(float(row.is_right))
    if not by_cause:
        return {"value": float("nan"), "low": 0.0, "high": 1.0, "n": 0}
    rng = np.random.default_rng(seed)
    drawn = [rng.choice(hits, (RESAMPLES, len(hits))).mean(axis=1) for hits in by_cause.values()]
    low, high = np.percentile(np.mean(drawn, axis=0), (2.5, 97.5))
    value = mean(mean(hits) for hits in by_cause.values())
    return {"value": value, "low": float(low), "high": float(high), "n": len(answered)}


def summary(rows: Sequence[Judged]) -> dict[str, object]:
    """The figures that the bars are about."""
    singles = [row for row in rows if row.case.is_single]
    faulty = [row for row in rows if row.case.causes and all(family_of(one) in FAULTY for one in row.case.causes)]
    doubles = [row for row in rows if len(row.case.causes) == 2]
    controls = [row for row in rows if not row.case.causes]
    wrong_also = sum(bool(row.named - row.case.causes) for row in rows if row.case.causes)
    return {
        "macro_accuracy": macro(rows),
        "accuracy": share(sum(row.is_right for row in singles if not row.abstains), _answered(singles)),
        "abstention": share(sum(row.abstains for row in singles), len(singles)),
        "macro_accuracy_abstention_wrong": _strict(singles),
        "false_data_verdicts": share(sum(row.verdict.family is Family.DATA for row in faulty), len(faulty)),
        "data_named_beside": share(
            sum(any(family_of(c) is Family.DATA for c in row.named) for row in faulty), len(faulty)
        ),
        "both_named": share(sum(row.case.causes <= row.named for row in doubles), len(doubles)),
        "one_of_two_first": share(sum(row.is_right for row in doubles), len(doubles)),
        "something_wrong_named": share(wrong_also, sum(bool(row.case.causes) for row in rows)),
        "controls_abstained": share(sum(row.abstains for row in controls), len(controls)),
        "seconds": _mean([row.seconds for row in rows]),
        "tokens": _mean([row.tokens for row in rows]),
    }


def _answered(rows: Sequence[Judged]) -> int:
    return sum(not row.abstains for row in rows)


def _strict(singles: Sequence[Judged]) -> float:
    by_cause: dict[Cause, list[bool]] = {}
    for row in singles:
        by_cause.setdefault(row.case.cause, []).append(row.is_right)
    return _mean([mean(hits) for hits in by_cause.values()])


def _mean(values: Sequence[float]) -> float:
    return float(mean(values)) if values else float("nan")


def confusion(rows: Sequence[Judged]) -> dict[str, dict[str, int]]:
    """Planted cause (UNKNOWN: a control) by verdict, of cases with one fault."""
    table: dict[str, Counter[str]] = {}
    for row in rows:
        if len(row.case.causes) < 2:
            table.setdefault(row.case.cause.value, Counter())[row.verdict.cause.value] += 1
    return {cause: dict(counts) for cause, counts in sorted(table.items())}


def reliability(rows: Sequence[Judged]) -> dict[str, object]:
    """Of the likeliest cause of each case, and of every cause: mean probability against how often it was planted."""
    top = [max(row.verdict.scores.items(), key=lambda pair: pair[1]) for row in rows if row.verdict.scores]
    judged = [row for row in rows if row.verdict.scores]
    leading = [(p, float(cause in row.case.causes)) for row, (cause, p) in zip(judged, top, strict=True)]
    every = [(p, float(cause in row.case.causes)) for row in judged for cause, p in row.verdict.scores.items()]
    return {"leading": _bins(leading), "every": _bins(every)}


def _bins(pairs: Sequence[tuple[float, float]]) -> dict[str, object]:
    """Bins of equal width; ECE is the mean distance weighted by bin size (Naeini et al. 2015)."""
    rows, ece = [], 0.0
    for at in range(BINS):
        inside = [pair for pair in pairs if min(BINS - 1, int(pair[0] * BINS)) == at]
        if not inside:
            continue
        said, true = mean(p for p, _ in inside), mean(y for _, y in inside)
        ece += len(inside) / len(pairs) * abs(said - true)
        rows.append({"said": said, **share(int(sum(y for _, y in inside)), len(inside))})
    return {"ece": ece, "brier": _mean([(p - y) ** 2 for p, y in pairs]), "bins": rows}


def risk_coverage(rows: Sequence[Judged]) -> list[dict[str, float]]:
    """Error among the most confident verdicts against the share of single faults that get one; guards always hold."""
    singles = [row for row in rows if row.case.is_single]
    given = sorted(
        (row for row in singles if row.forced.cause is not Cause.UNKNOWN), key=lambda r: -r.forced.confidence
    )
    wrong, curve = 0, []
    for at, row in enumerate(given, start=1):
        wrong += row.forced.cause not in row.case.causes
        curve.append({"coverage": at / len(singles), "risk": wrong / at, "threshold": row.forced.confidence})
    return curve
