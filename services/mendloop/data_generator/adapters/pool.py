"""Retrieval from a pool of examples by axis values. Knows an in-memory index; knows no model."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from mendloop.core.records import Axes, Example
from mendloop.core.tasks import Conditions
from mendloop.data_generator.domain.controls import POOL
from mendloop.data_generator.domain.funnel import GARBAGE_ERRORS


class PoolSource:
    """Examples of the pool that carry every value of the slice. Rows without axes get them from annotate."""

    def __init__(self, examples: Sequence[Example], *, annotate: Callable[[str], Axes]) -> None:
        self._examples = examples
        self._rows: dict[tuple[str, str], set[int]] = defaultdict(set)
        for row, example in enumerate(examples):
            for axis, values in (example.axes or _read(example, annotate=annotate)).items():
                for value in values:
                    self._rows[axis, value].add(row)

    @property
    def name(self) -> str:
        """pool."""
        return POOL

    @property
    def is_curriculum(self) -> bool:
        """A pool is in no order: the selection chooses."""
        return False

    def candidates(self, conditions: Conditions, *, seed: int) -> Iterator[Example]:
        """The matching rows, shuffled by the seed."""
        matching = set(range(len(self._examples)))
        for axis, value in conditions:
            matching &= self._rows.get((axis, value), set())
        order = sorted(matching)
        random.Random(seed).shuffle(order)
        for row in order:
            yield replace(self._examples[row], source=POOL)


def _read(example: Example, *, annotate: Callable[[str], Axes]) -> Axes:
    try:
        return annotate(example.prompt)
    except GARBAGE_ERRORS:
        return {}  # found under no axis value; a slice without conditions still meets it, and the funnel counts it
