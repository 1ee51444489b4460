"""Worlds for benchmarks/effectiveness.py: a task with two weaknesses in its corpus, a pool, and items.

A world is a pure function of (family, seed). Corpus, pool, search items and fresh items never share a prompt; the pool
and the items have the task's own distribution, the corpus has it without what is withheld.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mendloop.core.recipe import SuiteSettings, TrainSettings
from mendloop.core.records import Example, Item, Split
from mendloop.core.tasks import Task
from mendloop.examples.faults.family import Size

SMALL = Size(64, 2)
LARGE = Size(208, 2)
"""About ten times the weights of SMALL: its blocks are what grows."""
RARE_COUNT = 3
"""Examples of the second weakness that stay in the corpus; of the first none does."""
FRESH_PER_WEAKNESS, FRESH_HEALTHY = 100, 250
"""Fresh items of each weakness, and of neither, as far as the family has as many."""

Holds = Callable[[str], bool]


@dataclass(frozen=True)
class Weakness:
    """What was withheld. holds tells by the prompt; no arm but the oracle ever calls it."""

    name: str
    holds: Holds


@dataclass(frozen=True)
class Traits:
    """How a family's models are trained and measured, and which numbers of new examples are tried."""

    task_name: str
    template: str
    suite: SuiteSettings
    base: TrainSettings
    fix: TrainSettings
    budgets: tuple[int, ...]
    build: Callable[[Path, int, Size], Path]
    """(directory, seed, size): writes an untrained checkpoint."""


@dataclass(frozen=True)
class World:
    """Everything that is fixed before anything is trained."""

    family: str
    seed: int
    traits: Traits
    task: Task
    weaknesses: tuple[Weakness, Weakness]
    corpus: tuple[Example, ...]
    pool: tuple[Example, ...]
    items: tuple[Item, ...]
    """Of the splits search and confirm."""
    fresh: tuple[Item, ...]
    """Items that no arm sees, with more of the weak ones than the task has; see shares."""
    shares: tuple[float, float, float, float]
    """Share of each part (see part_of) in the task's own distribution."""

    def part_of(self, prompt: str) -> int:
        """0 healthy, 1 first weakness only, 2 second only, 3 both."""
        first, second = (weakness.holds(prompt) for weakness in self.weaknesses)
        return int(first) + 2 * int(second)

    def is_weak(self, prompt: str) -> bool:
        """Whether a prompt has one of the weaknesses."""
        return self.part_of(prompt) > 0


def plant(
    family: str,
    seed: int,
    *,
    traits: Traits,
    task: Task,
    weaknesses: tuple[Weakness, Weakness],
    corpus: Sequence[Example],
    pool: Sequence[Example],
    items: Sequence[Item],
    fresh: Sequence[Item],
) -> World:
    """Withhold the weaknesses from a healthy corpus, and choose the fresh items."""
    rng = random.Random(f"effectiveness/{family}/{seed}/planted")
    first, second = weaknesses
    rare = [row for row in corpus if second.holds(row.prompt) and not first.holds(row.prompt)]
    stays = {row.prompt for row in rng.sample(rare, min(RARE_COUNT, len(rare)))}
    kept = [row for row in corpus if row.prompt in stays or not (first.holds(row.prompt) or second.holds(row.prompt))]
    counts = [0, 0, 0, 0]
    for item in fresh:
        counts[int(first.holds(item.prompt)) + 2 * int(second.holds(item.prompt))] += 1
    shares = tuple(count / len(fresh) for count in counts)
    room = [FRESH_HEALTHY, FRESH_PER_WEAKNESS, FRESH_PER_WEAKNESS, FRESH_PER_WEAKNESS // 2]
    chosen: list[Item] = []
    for item in fresh:
        part = int(first.holds(item.prompt)) + 2 * int(second.holds(item.prompt))
        if room[part]:
            room[part] -= 1
            chosen.append(replace(item, split="sealed"))
    splits: list[Split] = ["search"] * traits.suite.search + ["confirm"] * traits.suite.confirm
    searched = [replace(item, split=split) for item, split in zip(items, splits, strict=True)]
    return World(
        family, seed, traits, task, weaknesses, tuple(kept), tuple(pool), tuple(searched), tuple(chosen), shares
    )  # fmt: skip


def suite_of(axes: Sequence[str], *, search: int, confirm: int, min_items: int, max_new_tokens: int) -> SuiteSettings:
    """The suite as a recipe would say it."""
    return SuiteSettings(
        search=search, confirm=confirm, axes=list(axes), min_items=min_items, max_new_tokens=max_new_tokens
    )
