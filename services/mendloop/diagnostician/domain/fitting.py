"""Fits a calibration to cases whose causes are known: penalised likelihood for the weights, utility for the thresholds.

The only module of the domain that optimises; nothing that runs in the service imports it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from mendloop.diagnostician.domain.calibrated import CalibratedJudge, Opinion
from mendloop.diagnostician.domain.calibration import CAUSES, FEATURES, Calibration, explained_by, features_of, sigmoid
from mendloop.diagnostician.domain.causes import Cause
from mendloop.diagnostician.domain.evidence import Evidence
from mendloop.diagnostician.domain.verdict import Verdict

SHARED_PENALTY = 0.02
"""Of the shared weights (not of the intercept): they are fitted by all causes together and need little."""
DEVIATION_PENALTIES = (0.5, 2.0, 8.0)
"""Of a cause's own weights: a dozen cases a cause move them by little. Which one, families that were left out say."""
WRONG_COSTS = 3.0
"""A wrong verdict costs three times what a right one is worth, for work follows it; abstaining costs nothing."""
WRONG_BESIDE_COSTS = 1.0
"""A wrong cause beside the verdict costs what a right one is worth: people read it, and nothing is done for it."""
PARTS, PART_WEIGHT = 2, 0.25
"""Halves of the evidence that are drawn for each case, and what each counts against the whole."""
THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(2, 20))

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Known:
    """A case with planted causes, and how much it counts."""

    evidence: tuple[Evidence, ...]
    causes: frozenset[Cause]
    group: str
    """Its task family."""
    weight: float = 1.0


def fit_weights(cases: Sequence[Known], *, deviation_penalty: float) -> Calibration:
    """Weights by L-BFGS on the penalised log-likelihood; thresholds of one half until they are chosen.

    Samples that lie apart never make a cause likelier.
    """
    features = np.array([features_of(explained_by(case.evidence)).mean(axis=0) for case in cases])
    present = np.array([[float(cause in case.causes) for cause in CAUSES] for case in cases])
    weight = np.array([[case.weight] for case in cases])
    penalty = np.full((1 + len(CAUSES), len(FEATURES)), deviation_penalty)
    penalty[0] = SHARED_PENALTY
    penalty[0, 0] = 0.0

    def loss(flat: Matrix) -> tuple[float, Matrix]:
        rows = flat.reshape(penalty.shape)
        logits = (features * (rows[0] + rows[1:])).sum(axis=-1)
        likelihood = weight * (np.logaddexp(0.0, logits) - present * logits)
        errors = weight * (sigmoid(logits) - present)
        by_cause = np.einsum("nc,ncf->cf", errors, features)
        gradient = np.vstack([by_cause.sum(axis=0), by_cause]) + penalty * rows
        return float(likelihood.sum() + 0.5 * (penalty * rows**2).sum()), gradient.ravel()

    bounds = [(None, 0.0 if name == "spread" else None) for _ in range(len(penalty)) for name in FEATURES]
    found = minimize(
        loss, np.zeros(penalty.size), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 2000}
    )
    rows = found.x.reshape(penalty.shape)
    deviations = {cause: _row(row) for cause, row in zip(CAUSES, rows[1:], strict=True)}
    return Calibration(_row(rows[0]), deviations, abstain_below=0.5, also_above=0.5)


def fit(cases: Sequence[Known]) -> Calibration:
    """Weights from all cases; penalty and thresholds from verdicts on groups that the weights were not fitted on."""
    penalty = min(DEVIATION_PENALTIES, key=lambda one: _surprise(left_out(cases, deviation_penalty=one)))
    abstain_below, also_above = choose_thresholds(left_out(cases, deviation_penalty=penalty))
    fitted = fit_weights(with_parts(cases), deviation_penalty=penalty)
    return replace(fitted, abstain_below=abstain_below, also_above=also_above)


Judgement = tuple[Opinion, Known]


def left_out(cases: Sequence[Known], *, deviation_penalty: float) -> list[Judgement]:
    """What weights say of each case that were fitted on the other groups."""
    found: list[Judgement] = []
    for group in sorted({case.group for case in cases}):
        others = with_parts([case for case in cases if case.group != group])
        judge = CalibratedJudge(fit_weights(others, deviation_penalty=deviation_penalty))
        found += [(judge.opinion(case.evidence), case) for case in cases if case.group == group]
    return found


def _surprise(judged: Sequence[Judgement]) -> float:
    """Mean negative log-likelihood of what was planted, in nats a case."""
    total = 0.0
    for opinion, case in judged:
        p = np.clip([opinion.together[cause] for cause in CAUSES], 1e-9, 1 - 1e-9)
        present = np.array([cause in case.causes for cause in CAUSES])
        total -= case.weight * float(np.log(np.where(present, p, 1 - p)).sum())
    return total / sum(case.weight for _, case in judged)


def choose_thresholds(judged: Sequence[Judgement]) -> tuple[float, float]:
    """The two thresholds with the most useful verdicts; the middle one of those that are equally useful.

    First when to name a cause at all, then when to name another beside it.
    """
    abstain_below = _most_useful(judged, [(one, 1.0) for one in THRESHOLDS])[0]
    return _most_useful(judged, [(abstain_below, one) for one in THRESHOLDS])


def _most_useful(judged: Sequence[Judgement], pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    base = Calibration((0.0,) * len(FEATURES), {cause: (0.0,) * len(FEATURES) for cause in CAUSES}, 0.0, 1.0)
    useful = []
    for abstain_below, also_above in pairs:
        judge = CalibratedJudge(replace(base, abstain_below=abstain_below, also_above=also_above))
        useful.append(sum(case.weight * utility(judge.decide(one), case.causes) for one, case in judged))
    best = [pair for pair, value in zip(pairs, useful, strict=True) if value == max(useful)]
    return best[len(best) // 2]


def utility(verdict: Verdict, causes: frozenset[Cause]) -> float:
    """What a verdict is worth: 1 for each planted cause that it names, less the costs of each other one."""
    if verdict.cause is Cause.UNKNOWN:
        return 0.0
    first = 1.0 if verdict.cause in causes else -WRONG_COSTS
    return first + sum(1.0 if cause in causes else -WRONG_BESIDE_COSTS for cause in verdict.also)


def with_parts(cases: Sequence[Known], *, seed: int = 0) -> list[Known]:
    """The cases, and each one as it looks with a random half of its probes, so that a judge knows what is open then."""
    rng, parts = random.Random(seed), []
    for case in cases:
        probes = sorted({row.probe for row in case.evidence})
        for _ in range(PARTS):
            kept = {name for name in probes if rng.random() < 0.5}
            rows = tuple(row for row in case.evidence if row.probe in kept)
            parts.append(replace(case, evidence=rows, weight=case.weight * PART_WEIGHT))
    return [*cases, *parts]


def _row(values: Matrix) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in values)
