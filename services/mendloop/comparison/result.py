"""The comparison of two sets of outcomes as values: overall, per task, per slice, and which items flipped.

Knows pairs and statistics; knows no file and no page. Documents come from `comparison.document`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from mendloop.comparison.anytime import ConfidenceSequence, confidence_sequence
from mendloop.comparison.estimates import Difference, estimate
from mendloop.comparison.pairing import TASK_AXIS, Pair, pair_outcomes, slices_of
from mendloop.comparison.repeats import NoiseFloor, Passing, noise_floor, passing, scores_by_item
from mendloop.core.records import Outcome
from mendloop.core.stats import benjamini_hochberg, holm

Correction = Literal["holm", "bh"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How to compare. by: axes (or conjunctions "a+b") whose values become rows beside the tasks."""

    by: tuple[str, ...] = ()
    confidence: float = 0.95
    correction: Correction = "holm"
    min_n: int = 10
    seed: int = 0
    anytime: bool = False

    def __post_init__(self) -> None:
        if not 0.5 <= self.confidence < 1:
            raise ValueError(f"confidence is {self.confidence}; it must lie in 0.5..1, without 1")
        if self.min_n < 1:
            raise ValueError(f"min_n is {self.min_n}; a row needs at least 1 item")


class Unanswered(NamedTuple):
    """Items without an answer that the scorer could find: in the first set, in the second, and among the lost."""

    first: int
    second: int
    lost: int


@dataclass(frozen=True, slots=True)
class Row:
    """The difference on the items with one value of an axis; p-values corrected over all rows of the comparison."""

    axis: str
    value: str
    difference: Difference
    unanswered: Unanswered
    p_holm: float
    p_bh: float


@dataclass(frozen=True, slots=True)
class SideFacts:
    """What one set says by itself."""

    name: str
    item_count: int
    repeat_count: int
    noise: NoiseFloor | None
    passing: tuple[Passing, ...]


@dataclass(frozen=True, slots=True)
class Anytime:
    """The overall difference under repeated looks, items in a seeded random order."""

    sequence: ConfidenceSequence
    running_mean: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that a report shows. missing_axes counts paired items without a value of an axis in `by`."""

    settings: Settings
    first: SideFacts
    second: SideFacts
    overall: Difference
    unanswered: Unanswered
    rows: tuple[Row, ...]
    lost: tuple[Pair, ...]
    gained: tuple[Pair, ...]
    unpaired: Mapping[str, tuple[str, ...]]
    remarks: Mapping[str, int]
    small_slices: tuple[str, ...] = ()
    missing_axes: Mapping[str, int] = field(default_factory=dict)
    anytime: Anytime | None = None

    def corrected(self, row: Row) -> float:
        """The corrected p-value that the settings ask to show."""
        return row.p_holm if self.settings.correction == "holm" else row.p_bh

    @property
    def level(self) -> float:
        """Two-sided error level."""
        return 1 - self.settings.confidence


def compare(
    first: Sequence[Outcome], second: Sequence[Outcome], *, names: tuple[str, str], settings: Settings | None = None
) -> Comparison:
    """Compare two sets on the items that both have. Raises ValueError where no item is in both."""
    chosen = settings or Settings()
    pairing = pair_outcomes(first, second)
    if not pairing.pairs:
        reasons = ", ".join(f"{len(ids)} {reason}" for reason, ids in pairing.unpaired.items()) or "both are empty"
        raise ValueError(f"{names[0]} and {names[1]} share no item ({reasons}); items pair by id and target")
    parts = _parts(pairing.pairs, by=chosen.by)
    large = {key: pairs for key, pairs in parts.items() if len(pairs) >= chosen.min_n}
    differences = [estimate(pairs, confidence=chosen.confidence, seed=chosen.seed) for pairs in large.values()]
    p_values = [difference.p_value for difference in differences]
    rows = [
        Row(axis, value, difference, _unanswered(large[axis, value]), p_holm, p_bh)
        for (axis, value), difference, p_holm, p_bh in zip(
            large, differences, holm(p_values), benjamini_hochberg(p_values), strict=True
        )
    ]
    remarks = Counter(pairing.remarks)
    overall = estimate(pairing.pairs, confidence=chosen.confidence, seed=chosen.seed)
    is_grouped = overall.group_count < overall.n
    if chosen.anytime and is_grouped:
        remarks["items in groups: the anytime-valid version needs independent items and is left out"] += overall.n
    return Comparison(
        settings=chosen,
        first=_facts(first, name=names[0]),
        second=_facts(second, name=names[1]),
        overall=overall,
        unanswered=_unanswered(pairing.pairs),
        rows=tuple(rows),
        lost=tuple(pair for pair in pairing.pairs if pair.difference < 0),
        gained=tuple(pair for pair in pairing.pairs if pair.difference > 0),
        unpaired=pairing.unpaired,
        remarks=dict(remarks),
        small_slices=tuple(f"{axis}={value} (n={len(parts[axis, value])})" for axis, value in parts.keys() - large),
        missing_axes=_missing(pairing.pairs, by=chosen.by),
        anytime=_anytime(pairing.pairs, settings=chosen) if chosen.anytime and not is_grouped else None,
    )


def _parts(pairs: Sequence[Pair], *, by: Sequence[str]) -> dict[tuple[str, str], list[Pair]]:
    """Pairs by (axis, value): tasks first, then the axes in the order asked for."""
    parts: dict[tuple[str, str], list[Pair]] = {}
    for axis in dict.fromkeys((TASK_AXIS, *by)):
        found: dict[str, list[Pair]] = defaultdict(list)
        for pair in pairs:
            for value in slices_of(pair, axis=axis):
                found[value].append(pair)
        parts |= {(axis, value): found[value] for value in sorted(found)}
    return parts


def _unanswered(pairs: Sequence[Pair]) -> Unanswered:
    return Unanswered(
        sum(not pair.first.is_answered for pair in pairs),
        sum(not pair.second.is_answered for pair in pairs),
        sum(not pair.second.is_answered for pair in pairs if pair.difference < 0),
    )


def _missing(pairs: Sequence[Pair], *, by: Sequence[str]) -> dict[str, int]:
    counts = {axis: sum(not slices_of(pair, axis=axis) for pair in pairs) for axis in by}
    return {axis: count for axis, count in counts.items() if count}


def _facts(outcomes: Sequence[Outcome], *, name: str) -> SideFacts:
    scores = scores_by_item(outcomes)
    fewest = min(len(repeats) for repeats in scores.values())
    most = max(len(repeats) for repeats in scores.values())
    shown = sorted({1, fewest, most}) if most > 1 else []
    return SideFacts(name, len(scores), most, noise_floor(scores), tuple(passing(scores, k=k) for k in shown))


def _anytime(pairs: Sequence[Pair], *, settings: Settings) -> Anytime:
    order = np.random.default_rng(settings.seed).permutation(len(pairs))
    differences = np.array([pairs[index].difference for index in order])
    running = np.cumsum(differences) / np.arange(1, len(pairs) + 1)
    sequence = confidence_sequence(differences, confidence=settings.confidence)
    return Anytime(sequence, tuple(float(value) for value in running))
