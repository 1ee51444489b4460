"""A case: one weak slice with everything that probes may look at. Knows neither files nor events.

Failures come in two disjoint samples, because a verdict must hold on both. The draw is seeded.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mendloop.core.errors import Permanent
from mendloop.core.recipe import SuiteSettings, TrainSettings
from mendloop.core.records import Example, Item, Outcome
from mendloop.core.tasks import Conditions, Task, matches
from mendloop.models.generation import LanguageModel

SAMPLE_NAMES = ("a", "b")
SAMPLE_SIZE = 24
"""Failures a sample: 24 of 24 has the 95 % interval .86..1, 0 of 24 has 0..0.14; a dozen more narrows it by 0.04."""


@dataclass(frozen=True, slots=True)
class Observation:
    """An item and what the checkpoint did with it."""

    item: Item
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Sample:
    """Half of the evaluation: failures of the slice, passing items as contrast, and all outcomes of the half."""

    name: str
    failed: tuple[Observation, ...]
    passing: tuple[Observation, ...]
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """One measured property of the training data, from the training report."""

    name: str
    passed: bool
    value: float


@dataclass(frozen=True, slots=True)
class Training:
    """What is known of the training that made the checkpoint."""

    settings: TrainSettings
    checks: tuple[Check, ...]
    loss_curve: tuple[tuple[int, float], ...]
    example_count: int
    template: Callable[[str], str] | None = None
    """The template that the training used; None where it is not known."""


@dataclass(frozen=True, slots=True)
class Case:
    """One weak slice. model is None where no checkpoint is at hand, training where nothing was trained by us."""

    conditions: Conditions
    samples: tuple[Sample, Sample]
    failed_count: int
    corpus: tuple[Example, ...]
    task: Task
    template: Callable[[str], str]
    suite: SuiteSettings
    model: LanguageModel | None
    training: Training | None
    seed: int
    earlier: LanguageModel | None = None
    """The checkpoint that the training started from; None where it is not at hand or was never trained."""
    weights: Callable[[], Path] | None = None
    """Fetches the checkpoint's directory, for probes that look inside; None where it is not at hand."""
    variants: Mapping[str, Sequence[Outcome]] = field(default_factory=dict)
    """Outcomes of the same items where one thing was changed; names as in probes.stored_variants."""
    not_placed: str = ""
    """Why prompts of the corpus cannot be placed in the slice; empty where they can."""
    wants_operation: bool = False
    """Whether the recipe asks for step-level data."""


def first_draws(outcomes: Iterable[Outcome]) -> dict[str, Outcome]:
    """The first of each item's repeated outcomes, by item in the order of their ids."""
    first: dict[str, Outcome] = {}
    for outcome in sorted(outcomes, key=lambda row: (row.item_id, row.repeat_index)):
        first.setdefault(outcome.item_id, outcome)
    return first


def draw_samples(
    outcomes: Iterable[Outcome],
    items: Mapping[str, Item],
    conditions: Conditions,
    *,
    seed: int,
    size: int = SAMPLE_SIZE,
) -> tuple[Sample, Sample]:
    """Two disjoint halves of the evaluation; an item with repeats counts once. Raises Permanent for an unknown item."""
    rng = random.Random(seed)
    groups: dict[tuple[bool, bool], list[Outcome]] = {}
    for outcome in first_draws(outcomes).values():
        groups.setdefault((matches(outcome.axes, conditions), outcome.is_correct), []).append(outcome)
    halves: tuple[list[Outcome], list[Outcome]] = ([], [])
    for key in sorted(groups):
        rng.shuffle(groups[key])
        for at, outcome in enumerate(groups[key]):
            halves[at % 2].append(outcome)
    a, b = (
        _sample(name, half, items, conditions, rng=rng, size=size)
        for name, half in zip(SAMPLE_NAMES, halves, strict=True)
    )
    return a, b


def _sample(
    name: str,
    half: Sequence[Outcome],
    items: Mapping[str, Item],
    conditions: Conditions,
    *,
    rng: random.Random,
    size: int,
) -> Sample:
    failed = [row for row in half if not row.is_correct and matches(row.axes, conditions)]
    passing = [row for row in half if row.is_correct]
    rng.shuffle(passing)
    return Sample(
        name,
        tuple(_observation(row, items) for row in failed[:size]),
        tuple(_observation(row, items) for row in passing[:size]),
        tuple(half),
    )


def _observation(outcome: Outcome, items: Mapping[str, Item]) -> Observation:
    item = items.get(outcome.item_id)
    if item is None:
        raise Permanent(f"the outcome of {outcome.item_id!r} belongs to no item of the run specification")
    return Observation(item, outcome)
