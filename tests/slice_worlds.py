"""Draws outcomes with planted weaknesses over five axes, for tests and figures of the slice search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mendloop.core.records import Axes, Outcome, Split
from mendloop.core.tasks import Conditions, matches
from mendloop.evaluator.domain.slices import SliceSearch, find_weak_slices
from mendloop.evaluator.domain.weakness import SliceRules

VALUES = {
    "verb": ("walk", "look", "run", "jump", "turn"),
    "manner": ("plain", "direct", "around", "opposite"),
    "direction": ("none", "left", "right"),
    "repetition": ("once", "twice", "thrice"),
}
RULES = SliceRules(
    axes=("verb", "manner", "direction", "repetition", "conjunction"),
    max_depth=2,
    weak_below=0.8,
    min_items=20,
    min_confirm_items=10,
    fdr=0.05,
    max_slices=4,
)
JUMP = (("verb", "jump"),)
AROUND_RIGHT = (("direction", "right"), ("manner", "around"))
JUMP_AROUND = (("manner", "around"), ("verb", "jump"))
RUN_THRICE = (("repetition", "thrice"), ("verb", "run"))
EVERYTHING: Conditions = ()
TEMPLATE = Outcome("", "search", "p", "o", "t", 0.0, 1, 1, "eos", "exact", -1.0, 0)


def axes_of_items(n: int, *, rng: np.random.Generator) -> list[Axes]:
    """Axis values: like SCAN commands, four items in five have two phrases and so often two values on an axis."""
    has_two = rng.random(n) < 0.8
    drawn = {axis: rng.integers(0, len(values), (n, 2)) for axis, values in VALUES.items()}
    joined = rng.integers(0, 2, n)
    return [
        {
            **{axis: _values(axis, drawn[axis][i], has_two=bool(has_two[i])) for axis in VALUES},
            "conjunction": (("and", "after")[joined[i]] if has_two[i] else "none",),
        }
        for i in range(n)
    ]


def _values(axis: str, pair: NDArray[np.int64], *, has_two: bool) -> tuple[str, ...]:
    return tuple(sorted({VALUES[axis][i] for i in pair[: 1 + has_two]}))


def outcomes_of(p_correct: Callable[[Axes], float], *, seed: int, n: int = 900) -> list[Outcome]:
    """Outcomes of n items, two thirds on the search split, each right with the probability that its axes give."""
    rng = np.random.default_rng(seed)
    rows = []
    for i, axes in enumerate(axes_of_items(n, rng=rng)):
        split: Split = "search" if i < 2 * n // 3 else "confirm"
        rows.append(
            replace(TEMPLATE, item_id=f"{i:05d}", split=split, score=float(rng.random() < p_correct(axes)), axes=axes)
        )
    return rows


def planted(*weak: Conditions, p_weak: float, p_healthy: float = 0.95) -> Callable[[Axes], float]:
    """P(correct) of items: p_weak where any of the slices holds them."""
    return lambda axes: p_weak if any(matches(axes, conditions) for conditions in weak) else p_healthy


def searched(p_correct: Callable[[Axes], float], *, seed: int, rules: SliceRules = RULES) -> SliceSearch:
    """The search on freshly drawn outcomes."""
    return find_weak_slices(outcomes_of(p_correct, seed=seed), rules=rules)


def precision_and_recall(
    truth: Sequence[Conditions], p_correct: Callable[[Axes], float], *, rounds: int
) -> tuple[float, float]:
    """Over all rounds: share of reported slices that were planted, share of planted slices that were reported."""
    hits = reported = 0
    for seed in range(rounds):
        found = {weak.conditions for weak in searched(p_correct, seed=seed).weak}
        hits += len(found & {tuple(conditions) for conditions in truth})
        reported += len(found)
    return hits / max(1, reported), hits / (rounds * len(truth))
