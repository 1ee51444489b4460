"""The small values of a run view: stamp, cost, slice, accuracy. Knows neither protobuf nor bus."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from mendloop.core.intervals import clopper_pearson

UNKNOWN_TIME = datetime.min.replace(tzinfo=UTC)


class Stamp(NamedTuple):
    """When an event was made (ce_time; UNKNOWN_TIME where its header cannot be read) and its id."""

    at: datetime
    event_id: str


@dataclass(frozen=True, slots=True)
class Cost:
    """What work cost: seconds, tokens, estimated floating-point operations (0 where no estimate was made)."""

    wall_s: float = 0.0
    gpu_s: float = 0.0
    token_count: int = 0
    flops: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.wall_s + other.wall_s,
            self.gpu_s + other.gpu_s,
            self.token_count + other.token_count,
            self.flops + other.flops,
        )


@dataclass(frozen=True, slots=True)
class Slice:
    """A conjunction of axis values; without conditions it means all items."""

    slice_id: str
    name: str
    conditions: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A proportion with its exact 95 % interval."""

    n: int
    correct: int
    low: float
    high: float

    @property
    def value(self) -> float | None:
        """The proportion; None where nothing was measured."""
        return self.correct / self.n if self.n else None


def exact_accuracy(correct: int, n: int) -> Accuracy:
    """A proportion with its Clopper-Pearson interval."""
    interval = clopper_pearson(correct, n)
    return Accuracy(n, correct, interval.low, interval.high)


@dataclass(frozen=True, slots=True)
class SliceScore:
    """Accuracy of one slice."""

    slice: Slice
    accuracy: Accuracy


@dataclass(frozen=True, slots=True)
class CauseScore:
    """A cause that was considered, and how likely it is (0 to 1)."""

    cause: str
    score: float


@dataclass(frozen=True, slots=True)
class Fix:
    """A repaired setting: its dotted name and its new value as JSON."""

    setting: str
    value_json: str
