"""What each probe brought on cases whose causes are known: replayed in random orders. Knows stored evidence alone."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from mendloop.diagnostician.domain.calibrated import CalibratedJudge
from mendloop.diagnostician.domain.calibration import CAUSES, ProbeRecord, entropy
from mendloop.diagnostician.domain.causes import Cause
from mendloop.diagnostician.domain.evidence import Evidence
from mendloop.diagnostician.domain.probing import SAMPLING
from mendloop.diagnostician.domain.verdict import Verdict, too_few

FEW = 5
"""A cause's own share of changed verdicts counts against the probe's share over all causes like this many verdicts."""

Rows = Sequence[Evidence]


class _Tally:
    def __init__(self) -> None:
        self.costs: list[tuple[float, int]] = []
        self.before = np.zeros(len(CAUSES))
        self.after = np.zeros(len(CAUSES))
        self.standing: dict[Cause, list[bool]] = defaultdict(list)
        """Per cause of a standing verdict: whether the probe changed what was named."""


def probe_records(
    cases: Sequence[Rows], judge: CalibratedJudge, *, seed: int, orders: int = 2
) -> dict[str, ProbeRecord]:
    """A record of every probe that occurs in the cases."""
    rng, tallies = random.Random(seed), defaultdict[str, _Tally](_Tally)
    for rows in cases:
        by_probe = by_probe_of(rows)
        sampling = by_probe.pop(SAMPLING)
        if too_few(sampling):
            continue
        for name, own in by_probe.items():
            costs = [row.cost for row in own]
            tallies[name].costs.append((sum(c.wall_s for c in costs), sum(c.token_count for c in costs)))
        for _ in range(orders):
            names = rng.sample(sorted(by_probe), len(by_probe))
            _replay([(name, by_probe[name]) for name in names], list(sampling), judge, tallies)
    return {name: _record(tally) for name, tally in sorted(tallies.items())}


def by_probe_of(rows: Rows) -> dict[str, list[Evidence]]:
    """The rows of each probe, in their order."""
    found: dict[str, list[Evidence]] = {}
    for row in rows:
        found.setdefault(row.probe, []).append(row)
    return found


def _replay(
    steps: Sequence[tuple[str, Rows]], evidence: list[Evidence], judge: CalibratedJudge, tallies: dict[str, _Tally]
) -> None:
    unknown, verdict = _state(evidence, judge)
    for name, rows in steps:
        evidence += rows
        left, after = _state(evidence, judge)
        tally = tallies[name]
        tally.before += unknown
        tally.after += left
        if verdict.cause is not Cause.UNKNOWN:
            named = {verdict.cause, *verdict.also}
            tally.standing[verdict.cause].append(named != {after.cause, *after.also})
        unknown, verdict = left, after


def _state(evidence: Rows, judge: CalibratedJudge) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float64]], Verdict]:
    opinion = judge.opinion(evidence)
    return entropy(np.array([opinion.together[cause] for cause in CAUSES])), judge.decide(opinion)


def _record(tally: _Tally) -> ProbeRecord:
    wall_s, tokens = (float(np.mean(column)) for column in zip(*tally.costs, strict=True))
    shares = np.clip((tally.before - tally.after) / np.maximum(tally.before, 1e-9), 0, 1)
    resolved = {cause: round(float(share), 4) for cause, share in zip(CAUSES, shares, strict=True)}
    overall = [changed for row in tally.standing.values() for changed in row]
    usual = sum(overall) / max(1, len(overall))
    turned = {cause: _turned(tally.standing.get(cause, []), usual=usual) for cause in CAUSES}
    return ProbeRecord(round(wall_s, 4), round(tokens, 1), resolved, turned)


def _turned(changed: Sequence[bool], *, usual: float) -> float:
    return round((sum(changed) + FEW * usual) / (len(changed) + FEW), 4)
