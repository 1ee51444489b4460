"""Pairs the outcomes of two checkpoints on the same items. Knows axes and right or wrong; knows no test."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mendloop.controller.domain.records import Conditions
from mendloop.core.errors import Permanent
from mendloop.core.records import Axes
from mendloop.core.tasks import matches


@dataclass(frozen=True, slots=True)
class Result:
    """What one checkpoint did with one item."""

    item_id: str
    axes: Axes
    is_correct: bool


@dataclass(frozen=True, slots=True)
class Pair:
    """One item under both checkpoints."""

    axes: Axes
    before: bool
    after: bool


@dataclass(frozen=True, slots=True)
class Counts:
    """Paired counts: lost and gained are right only before, only after."""

    n: int
    lost: int
    gained: int
    both: int

    def __post_init__(self) -> None:
        if min(self.lost, self.gained, self.both) < 0 or self.lost + self.gained + self.both > self.n:
            raise ValueError(f"paired counts {self.lost}, {self.gained}, {self.both} do not fit n = {self.n}")

    @property
    def before(self) -> float:
        """Accuracy before; 0 where nothing was measured."""
        return (self.both + self.lost) / self.n if self.n else 0.0

    @property
    def after(self) -> float:
        """Accuracy after; 0 where nothing was measured."""
        return (self.both + self.gained) / self.n if self.n else 0.0

    def thinned(self, design_effect: float) -> tuple[int, int]:
        """Lost and gained divided by the design effect: lost rounded up, gained down."""
        lost = math.ceil(round(self.lost / design_effect, 6))
        return lost, math.floor(round(self.gained / design_effect, 6))


def pair(before: Iterable[Result], after: Iterable[Result]) -> list[Pair]:
    """The items under both checkpoints, in the order of their ids. Raises Permanent where the items differ."""
    first = {result.item_id: result for result in before}
    second = {result.item_id: result for result in after}
    alone = sorted(first.keys() ^ second.keys())
    if alone:
        raise Permanent(
            f"{len(alone)} item(s) were measured under one checkpoint only, e.g. {alone[0]!r}: "
            "evaluate both on the same suite"
        )
    return [Pair(first[name].axes, first[name].is_correct, second[name].is_correct) for name in sorted(first)]


def count(pairs: Iterable[Pair], conditions: Conditions = ()) -> Counts:
    """Paired counts of a slice."""
    inside = [p for p in pairs if matches(p.axes, conditions)]
    return Counts(
        n=len(inside),
        lost=sum(p.before and not p.after for p in inside),
        gained=sum(p.after and not p.before for p in inside),
        both=sum(p.before and p.after for p in inside),
    )


def by_value(pairs: Iterable[Pair], axes: Iterable[str]) -> dict[Conditions, Counts]:
    """Paired counts of every value on the axes, sorted, in one pass."""
    groups: dict[Conditions, list[Pair]] = {}
    wanted = tuple(axes)
    for p in pairs:
        for axis in wanted:
            for value in p.axes.get(axis, ()):
                groups.setdefault(((axis, value),), []).append(p)
    return {conditions: count(groups[conditions]) for conditions in sorted(groups)}


def overlap(pairs: Iterable[Pair], slices: Sequence[Conditions]) -> float:
    """Kish's design effect of adding up counts over slices that share items: 1 where they share none."""
    times = [sum(matches(p.axes, conditions) for conditions in slices) for p in pairs]
    return sum(t * t for t in times) / sum(times) if any(times) else 1.0
