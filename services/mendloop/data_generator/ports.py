"""What the data generator asks of the outside: sources of candidates, and an index of similar texts.

Later sources (a language model as teacher, rewriting of seeds, reweighting) join as further Sources; the funnel,
the limits and the ledger stay the same for all. An index over a large corpus joins as another NearDuplicates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mendloop.core.recipe import RetrievalSettings
from mendloop.core.records import Example, Item
from mendloop.core.tasks import Task
from mendloop.data_generator.domain.collection import Source, SourceGaveUp
from mendloop.data_generator.domain.funnel import NearDuplicates

__all__ = ["NearDuplicates", "OpenIndex", "OpenRetrieval", "OpenSources", "Shelf", "Source", "SourceGaveUp"]


OpenSources = Callable[[Task, str, Sequence[Example]], Sequence[Source]]
"""(task, its name, rows of the pool) to sources, in the order in which they are asked."""

OpenIndex = Callable[[], NearDuplicates]
"""An empty index."""


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
