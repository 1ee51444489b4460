"""Control arms: as many examples as the loop's batch has, from places that know nothing of what failed. Pure.

Who generates without a loop does not look into the corpus either, so only the oracle's batch leaves out what the corpus
holds: of a pool that shares most prompts with the corpus the rest is what the corpus lacks, and the random arm would be
an oracle.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mendloop.core.arms import ORACLE, RANDOM
from mendloop.core.records import Example
from mendloop.core.tasks import Conditions, matches
from mendloop.data_generator.domain.collection import Source

POOL = "pool"
"""What an example of the pool has as its source."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Rows of the pool at random: the first that pass are taken, no selection chooses among them."""

    rows: Sequence[Example]
    name: str = POOL
    is_curriculum: bool = True

    def candidates(self, conditions: Conditions, *, seed: int) -> Iterator[Example]:
        """The rows of the slice, shuffled by the seed."""
        inside = [row for row in self.rows if matches(row.axes, conditions)]
        for row in random.Random(seed).sample(inside, len(inside)):
            yield replace(row, source=self.name)


def control_sources(
    control: str, *, pool: Sequence[Example], teachers: Sequence[Source], asks_pool: bool
) -> list[Source]:
    """Where a control's examples come from, in order.

    random: the pool alone. directly-sampled: who teaches, without a target, then the pool. oracle: the pool, then who
    teaches, for the regions that it is told. asks_pool: whether the run asks its pool at all, which random does anyway.
    """
    drawn: list[Source] = [Drawn(pool)]
    if control == RANDOM:
        return drawn
    if not asks_pool:
        return [*teachers]
    return [*drawn, *teachers] if control == ORACLE else [*teachers, *drawn]


def looks_into_corpus(control: str) -> bool:
    """Whether a batch leaves out what the corpus holds: the loop's own (control is empty) and the oracle's."""
    return control in ("", ORACLE)
