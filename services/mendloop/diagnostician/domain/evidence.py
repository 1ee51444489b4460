"""Evidence: what a probe measured, with its interval, and a sentence that a person can check. Knows no cause."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from mendloop.core.stats import clopper_pearson
from mendloop.diagnostician.domain.uncertainty import Estimate


@dataclass(frozen=True, slots=True)
class Cost:
    """What a probe cost."""

    wall_s: float = 0.0
    token_count: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.wall_s + other.wall_s, self.token_count + other.token_count)


@dataclass(frozen=True, slots=True)
class Attachment:
    """What a figure cannot hold: a heat map, a list of examples. document is plain JSON values."""

    name: str
    kind: Literal["heat_map", "examples", "table"]
    document: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One measurement. n is 0 where the probe could not run; sample is empty where it holds for every sample."""

    probe: str
    measurement: str
    value: float
    low: float
    high: float
    n: int
    reading: str
    sample: str = ""
    cost: Cost = Cost()
    attachment: Attachment | None = None

    def __post_init__(self) -> None:
        ends = (self.low, self.value, self.high)
        if not all(math.isfinite(end) for end in ends) or self.n < 0:
            raise ValueError(f"{self.probe}.{self.measurement} is {ends} with n = {self.n}; it must be finite")
        if not self.low - 1e-9 <= self.value <= self.high + 1e-9:
            raise ValueError(f"{self.probe}.{self.measurement}: {self.value} lies outside {self.low}..{self.high}")

    @property
    def estimate(self) -> Estimate:
        """The value with its interval."""
        return Estimate(self.value, self.low, self.high)


def share(probe: str, measurement: str, hits: int, n: int, *, reading: str, sample: str = "") -> Evidence:
    """A proportion with its exact interval; n = 0 gives evidence of a probe that could not run."""
    if n == 0:
        return missing(probe, measurement, reading=reading, sample=sample)
    low, high = clopper_pearson(hits, n)
    return Evidence(probe, measurement, hits / n, low, high, n, reading, sample)


def measured(
    probe: str, measurement: str, value: Estimate, n: int, *, reading: str, sample: str = "", cost: Cost = Cost()
) -> Evidence:
    """An estimate as evidence."""
    return Evidence(probe, measurement, *value, n, reading, sample, cost)


def exact(probe: str, measurement: str, value: float, n: int, *, reading: str) -> Evidence:
    """A value that was counted, not estimated."""
    return Evidence(probe, measurement, value, value, value, n, reading)


def missing(probe: str, measurement: str, *, reading: str, sample: str = "") -> Evidence:
    """Evidence of a probe that could not run; the reading says why."""
    return Evidence(probe, measurement, 0.0, 0.0, 0.0, 0, reading, sample)


class Table:
    """The evidence as one sample sees it: its own rows and those that hold for every sample."""

    def __init__(self, rows: Iterable[Evidence], *, sample: str) -> None:
        self._rows: dict[tuple[str, str], Evidence] = {}
        for row in rows:
            key = (row.probe, row.measurement)
            if row.sample in ("", sample) and (row.n > 0 or key not in self._rows):  # two probes may fill one row
                self._rows[key] = row

    def get(self, probe: str, measurement: str) -> Evidence | None:
        """A measurement, or None where it was not made or could not be."""
        row = self.row(probe, measurement)
        return row if row is not None and row.n > 0 else None

    def row(self, probe: str, measurement: str) -> Evidence | None:
        """A measurement, also where its probe tried and could not make it (n = 0)."""
        return self._rows.get((probe, measurement))
