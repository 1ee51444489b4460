"""Whether a gain carries over to fresh items: the twin suite. Knows paired counts; knows neither items nor events.

A candidate that learnt the public items and not the skill gains on them and not on their twins, which have the same
axes and which nobody has seen. Two gates. `twins_improve`: the targets together improve on twins alone (exact McNemar);
twins are new in each round, so this holds whatever was done after looking at the public items. `twins_agree`: no
target gains significantly more on its items than on their twins. Under "an item and its twin are exchangeable" each
pair's difference of gains has a symmetric distribution, and flipping signs is an exact test (Fisher 1935).
Targets were chosen for being weak on the public items, so that the public gain of an honest candidate is a little too
large (regression to the mean). A veto therefore needs the difference after training, too, to be significant (exact
McNemar of item against twin under the candidate), which the choice can only make smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mendloop.controller.domain.pairs import Counts
from mendloop.controller.domain.records import Conditions, GateAnswer
from mendloop.core.stats import holm, p_improved, paired_difference

TWIN_TARGET = "twins_improve"
TWIN_GAP = "twins_agree"
GAP_SHARE = 5
"""The veto gets a fifth of alpha: a learnt suite shows at any level, and honest candidates are to pass."""


@dataclass(frozen=True, slots=True)
class TwinCounts:
    """Counts of (item before, item after, twin before, twin after) by 8, 4, 2, 1; missing items have no twin."""

    cells: tuple[int, ...]
    missing: int = 0

    def __post_init__(self) -> None:
        if len(self.cells) != 16 or min(self.cells) < 0 or self.missing < 0:
            raise ValueError(f"twin counts are {self.cells} with {self.missing} missing; 16 counts of 0 or more")

    @property
    def n(self) -> int:
        """Items with a twin."""
        return sum(self.cells)

    @property
    def items(self) -> Counts:
        """The public items before and after."""
        return self._paired(8, 4)

    @property
    def twins(self) -> Counts:
        """Their twins before and after."""
        return self._paired(2, 1)

    @property
    def after(self) -> Counts:
        """Under the candidate: lost is right on the twin only, gained on the item only."""
        return self._paired(1, 4)

    @property
    def gap(self) -> float:
        """Gain on the items minus gain on the twins."""
        return (self.items.after - self.items.before) - (self.twins.after - self.twins.before)

    def p_gap(self) -> float:
        """One-sided exact p-value of "the gain on items is no larger than on twins" by flipping signs."""
        differences = [_gap_of(cell) for cell in range(16)]
        observed = sum(d * count for d, count in zip(differences, self.cells, strict=True))
        ones = sum(count for d, count in zip(differences, self.cells, strict=True) if abs(d) == 1)
        twos = sum(count for d, count in zip(differences, self.cells, strict=True) if abs(d) == 2)
        chance = np.convolve(_signs(ones, step=1), _signs(twos, step=2))
        centre = ones + 2 * twos
        return float(min(1.0, chance[centre + observed :].sum()))

    def _paired(self, first: int, second: int) -> Counts:
        def total(*, has_first: bool, has_second: bool) -> int:
            fitting = (bool(c & first) is has_first and bool(c & second) is has_second for c in range(16))
            return sum(count for count, fits in zip(self.cells, fitting, strict=True) if fits)

        return Counts(
            n=self.n,
            lost=total(has_first=True, has_second=False),
            gained=total(has_first=False, has_second=True),
            both=total(has_first=True, has_second=True),
        )


def twin_gates(
    targets: Sequence[tuple[Conditions, TwinCounts]],
    *,
    target_count: int,
    design_effect: float,
    alpha: float,
    level: float,
) -> list[GateAnswer]:
    """The targets together improve on twins at the level, and no target's gain is the public items' alone.

    alpha is the recipe's rate, of which the veto gets a share; level is this round's.
    """
    present = [(conditions, counts) for conditions, counts in targets if counts.n]
    if not present:
        why = "no item of a target slice has a twin in this round"
        return [GateAnswer(TWIN_TARGET, (), False, 0, 0.0, 0.0, -1.0, 1.0, 1.0, why)]
    answers = [_improves(present, target_count=target_count, design_effect=design_effect, level=level)]
    veto = alpha / GAP_SHARE
    adjusted = holm([max(counts.p_gap(), p_improved(counts.after.lost, counts.after.gained)) for _, counts in present])
    for (conditions, counts), p in zip(present, adjusted, strict=True):
        low, high = paired_difference(counts.after.lost, counts.after.gained, n=counts.n)
        words = (
            f"gain on items {_points(counts.items)} against {_points(counts.twins)} on their twins; figures are twin"
            f" and item under the candidate; a difference with p <= {veto:g} after Holm is overfitting"
        )
        if counts.missing:
            words += f"; {counts.missing} item(s) have no twin"
        before, after = counts.twins.after, counts.items.after
        answers.append(GateAnswer(TWIN_GAP, conditions, p > veto, counts.n, before, after, low, high, p, words))
    return answers


def _improves(
    present: Sequence[tuple[Conditions, TwinCounts]], *, target_count: int, design_effect: float, level: float
) -> GateAnswer:
    twins = [counts.twins for _, counts in present]
    summed = Counts(*(sum(getattr(part, name) for part in twins) for name in ("n", "lost", "gained", "both")))
    p = p_improved(*summed.thinned(design_effect))
    low, high = paired_difference(summed.lost, summed.gained, n=summed.n)
    words = f"fresh twins of {len(present)} of {target_count} target(s) together better, exact McNemar p <= {level:g}"
    conditions = present[0][0] if len(present) == 1 else ()
    return GateAnswer(TWIN_TARGET, conditions, p <= level, summed.n, summed.before, summed.after, low, high, p, words)


def _points(counts: Counts) -> str:
    return f"{(counts.after - counts.before) * 100:+.1f} points"


def _gap_of(cell: int) -> int:
    return (bool(cell & 4) - bool(cell & 8)) - (bool(cell & 1) - bool(cell & 2))


def _signs(count: int, *, step: int) -> NDArray[np.float64]:
    """The chances of a sum of so many steps of random sign, by the sum from the lowest to the highest."""
    chances = np.zeros(2 * step * count + 1)
    row = np.ones(1)
    for _ in range(count):
        row = np.convolve(row, (0.5, 0.5))
    chances[:: 2 * step] = row
    return chances
