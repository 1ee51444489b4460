"""What a row of the metric table is: name, type, unit, meaning, labels with their bounds. Knows no row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mendloop.core.contracts import SERVICES

OTHER = "other"
"""What a label value becomes where its bound is reached."""
Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Label:
    """A label and its bound: the values that it can have, or how many different ones at most."""

    name: str
    values: tuple[str, ...] = ()
    most: int = 0

    def __post_init__(self) -> None:
        if bool(self.values) == bool(self.most):
            raise ValueError(f"label {self.name!r} needs either its values or the number of them")

    @property
    def bound(self) -> int:
        """Most values that it can have, `other` included."""
        return len(self.values) if self.values else self.most + 1


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table. services: who shows it. A counter is shown with the suffix _total."""

    name: str
    kind: Kind
    unit: str
    labels: tuple[Label, ...]
    meaning: str
    services: tuple[str, ...] = SERVICES
    buckets: tuple[float, ...] = field(default=())

    @property
    def exposed(self) -> tuple[str, ...]:
        """The names under which Prometheus sees it."""
        if self.kind == "counter":
            return (f"{self.name}_total",)
        if self.kind == "histogram":
            return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))
        return (self.name,)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Its labels; every metric says first which service shows it."""
        return ("service", *(label.name for label in self.labels))

    @property
    def most_series(self) -> int:
        """Most series that one process shows of it."""
        count = len(self.buckets) + 3 if self.kind == "histogram" else 1
        for label in self.labels:
            count *= label.bound
        return count
