"""Which probe comes next, and when to stop. Knows what probes cost and brought on planted cases; runs none.

1. The judge says how likely each cause is with the evidence so far; its entropy is what is not known of that cause.
2. Each probe took a share of a cause's entropy away on planted cases: entropy times share is what it should bring now.
3. The next probe is the one that should bring most per second of its mean time there.
4. Probing stops where a verdict stands and the probes that are left changed few enough of its kind on planted cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mendloop.diagnostician.domain.calibrated import CalibratedJudge
from mendloop.diagnostician.domain.calibration import CAUSES, ProbeRecord, entropy
from mendloop.diagnostician.domain.causes import Cause
from mendloop.diagnostician.domain.evidence import Evidence
from mendloop.diagnostician.domain.probing import CostClass, Probe
from mendloop.diagnostician.domain.verdict import too_few

MAY_CHANGE = 0.02
"""Probing stops where the rest would change fewer than one in fifty verdicts of this cause."""
LEAST_S = 0.002
"""A probe that reads stored outputs takes about this; a shorter time says nothing."""
TYPICAL_S = {CostClass.STORED: 0.01, CostClass.SCORED: 0.3, CostClass.GENERATED: 1.0, CostClass.SEARCHED: 5.0}
"""Of a probe without a record, which is tried in the order of cost."""


@dataclass(frozen=True, slots=True)
class InformationPerSecond:
    """Chooses probes for a calibrated judge; both methods take the place of cheapest first."""

    judge: CalibratedJudge

    def choose(self, evidence: Sequence[Evidence], waiting: Sequence[Probe]) -> Probe:
        """The probe that should bring most bits per second; the first of equals."""
        together = self.judge.opinion(evidence).together
        unknown = dict(zip(CAUSES, entropy(np.array([together[cause] for cause in CAUSES])), strict=True))
        return max(waiting, key=lambda probe: self._bits_per_s(probe, unknown))

    def is_clear(self, evidence: Sequence[Evidence]) -> bool:
        """Whether a verdict stands that the probes which are left would hardly change."""
        if too_few(evidence):
            return True
        verdict = self.judge(evidence)
        if verdict.cause is Cause.UNKNOWN:
            return False
        done = {row.probe for row in evidence}
        left = [record for name, record in self._records.items() if name not in done]
        return sum(record.turned.get(verdict.cause, 1.0) for record in left) <= MAY_CHANGE

    @property
    def _records(self) -> dict[str, ProbeRecord]:
        return dict(self.judge.calibration.probes)

    def _bits_per_s(self, probe: Probe, unknown: dict[Cause, float]) -> float:
        record = self._records.get(probe.name)
        if record is None:
            return sum(unknown.values()) / TYPICAL_S[probe.cost_class] / len(CAUSES)
        bits = sum(unknown[cause] * record.resolved.get(cause, 0.0) for cause in CAUSES)
        return bits / max(record.wall_s, LEAST_S)
