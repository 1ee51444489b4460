"""Token buckets: how many requests each name may make. Knows no clock and no address; both are passed in."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests a second in the long run, and how many may come at once."""

    per_s: float
    burst: int

    def __post_init__(self) -> None:
        if not self.per_s > 0 or self.burst < 1:
            raise ValueError(f"a rate of {self.per_s} a second with a burst of {self.burst}; both must be positive")


@dataclass(frozen=True, slots=True)
class Allowance:
    """Whether a request may pass, how many more may follow at once, and seconds until the next may (0: now)."""

    is_allowed: bool
    remaining: int
    wait_s: float


class Buckets:
    """A bucket a name, each full at first. At most `keep` names are held; the one unused for longest is forgotten,
    which can only be in its favour."""

    def __init__(self, rate: Rate, *, keep: int = 10_000) -> None:
        self.rate, self._keep = rate, keep
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, *, now: float) -> Allowance:
        """Take one from a name's bucket, if there is one. `now` is seconds of a clock that never goes back."""
        held = self._held(name, now=now)
        is_allowed = held >= 1
        left = held - 1 if is_allowed else held
        self._buckets[name] = (left, now)
        self._buckets.move_to_end(name)
        if len(self._buckets) > self._keep:
            self._buckets.popitem(last=False)
        return self._allowance(left, is_allowed=is_allowed)

    def look(self, name: str, *, now: float) -> Allowance:
        """What take would answer, without taking."""
        held = self._held(name, now=now)
        return self._allowance(held, is_allowed=held >= 1)

    def _held(self, name: str, *, now: float) -> float:
        held, at = self._buckets.get(name, (float(self.rate.burst), now))
        return min(float(self.rate.burst), held + max(0.0, now - at) * self.rate.per_s)

    def _allowance(self, left: float, *, is_allowed: bool) -> Allowance:
        return Allowance(is_allowed, math.floor(left), max(0.0, (1 - left) / self.rate.per_s))
