"""What the data generator asks of the outside: sources of candidates, and an index of similar texts.

Later sources join as further Sources; the funnel, the limits and the ledger stay the same for all. An index over a
large corpus joins as another NearDuplicates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from mendloop.artifacts.store import Artifact
from mendloop.axes.placing import Places
from mendloop.core.recipe import RetrievalSettings
from mendloop.core.records import Example, Item
from mendloop.core.run_spec import RunSpec
from mendloop.core.tasks import Task
from mendloop.data_generator.domain.collection import Rejected, Source, SourceGaveUp
from mendloop.data_generator.domain.funnel import Check, NearDuplicates
from mendloop.data_generator.domain.preferences import PairSource

__all__ = [
    "Assignment",
    "Check",
    "Cost",
    "NearDuplicates",
    "OpenIndex",
    "OpenRetrieval",
    "OpenSources",
    "OpenStudent",
    "OpenTeaching",
    "PairSource",
    "Rejected",
    "Shelf",
    "Source",
    "SourceGaveUp",
    "Student",
    "Teaching",
]


OpenSources = Callable[[Task, str, Sequence[Example]], Sequence[Source]]
"""(task, its name, rows of the pool) to sources, in the order in which they are asked."""

OpenIndex = Callable[[], NearDuplicates]
"""An empty index."""


class Student(Protocol):
    """A checkpoint whose answers are drawn."""

    token_count: int
    """Tokens that it generated so far."""

    def answers(self, prompts: Sequence[str], *, temperature: float, seed: int) -> list[str]:
        """One draw a prompt, in order."""


OpenStudent = Callable[[RunSpec, Artifact], Student]
"""(run specification, checkpoint) to the student, loaded when it is first asked."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a language teacher is told: the run, its task, and the examples from which it may make others."""

    spec: RunSpec
    plan_id: str
    task: Task
    corpus: Sequence[Example]
    held_out: frozenset[str]
    places: Places | None = None
    student: Student | None = None
    """The checkpoint that failed; None where this service cannot load one."""
    token_limit: int = 0
    """Most tokens that the teacher may generate for the plan; 0: the recipe's own limit alone counts."""


class Cost(NamedTuple):
    """What a teacher cost so far: tokens that it generated, and replies of which nobody said how many."""

    token_count: int = 0
    unmetered_count: int = 0


def _nothing() -> Cost:
    return Cost()


@dataclass(frozen=True, slots=True)
class Teaching:
    """What a language teacher brings to one plan: nothing, unless the recipe names one.

    confirms: the check that stands in for a program where the task has none that verifies.
    """

    sources: Sequence[Source] = ()
    place: Literal["first", "last", "alone"] = "last"
    confirms: Check | None = None
    pairs: PairSource | None = None
    """Preference pairs for a family of principles."""
    window: Check | None = None
    """The check of the student's pass rate, where the recipe asks for one."""
    cost: Callable[[], Cost] = _nothing
    notes: Callable[[], Sequence[str]] = tuple
    """What the ledger shall say of its checks, once the batch is made."""

    def beside(self, others: Sequence[Source]) -> Sequence[Source]:
        """All sources, in the order in which they are asked."""
        if self.place == "first":
            return [*self.sources, *others]
        return [*self.sources] if self.place == "alone" else [*others, *self.sources]


OpenTeaching = Callable[[Assignment], Teaching]
"""Hires the recipe's teacher for one plan."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """What retrieval searches and what for: a pool, and the search items whose like is wanted."""

    name: str
    """The same for every run of one pool, so that an index made before serves again."""
    settings: RetrievalSettings
    pool: Sequence[Example]
    items: Sequence[Item]
    is_stopping: Callable[[], bool]


OpenRetrieval = Callable[[Shelf], Sequence[Source]]
"""Sources that search a shelf. Raises Permanent without the package, Interrupted where the service stops."""
