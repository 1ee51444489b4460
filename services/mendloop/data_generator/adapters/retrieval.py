"""Retrieval from a pool by likeness to the slice's own items: BM25 and vectors, fused. Knows a table and a pool.

Queries are prompts of the search split, never of the others; what they find goes through the funnel like anything else.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from mendloop.axes.placing import Embeds
from mendloop.core.errors import Interrupted
from mendloop.core.records import Example
from mendloop.core.tasks import Conditions, matches
from mendloop.data_generator.adapters.retrieval_table import RetrievalTable, key_of
from mendloop.data_generator.domain.fusion import fused
from mendloop.data_generator.ports import Shelf, Source

log = logging.getLogger(__name__)
NAME = "retrieval"
FIT_SAMPLE = 20_000
"""Prompts from which an embedder without a model of its own learns its terms."""


class Embedding(Protocol):
    """Embedders of this machine."""

    def fitted(self, texts: Sequence[str]) -> tuple[Embeds, str, bytes]:
        """An embedder for texts like these, its name, and what restores it beside the name."""

    def restored(self, name: str, state: bytes) -> Embeds:
        """The embedder of a name and state. Raises Permanent where this machine does not have it."""


class RetrievalSource:
    """Examples of the pool that carry every value of the slice, the most like its items first."""

    def __init__(self, table: RetrievalTable, shelf: Shelf) -> None:
        self._table, self._shelf = table, shelf
        self._rows = {key_of(row): row for row in shelf.pool}

    @property
    def name(self) -> str:
        """retrieval."""
        return NAME

    @property
    def is_curriculum(self) -> bool:
        """Likeness is no order to learn in: the selection chooses among what was found."""
        return False

    def candidates(self, conditions: Conditions, *, seed: int) -> Iterator[Example]:
        """At most `top` rows of the pool; the seed draws the queries and orders equals."""
        queries = self._queries(conditions, seed=seed)
        order = fused(self._rankings(queries, conditions), seed=seed)
        found = (self._rows[key] for key in order if key in self._rows)
        fitting = (row for row in found if matches(row.axes, conditions))
        for _, row in zip(range(self._shelf.settings.top), fitting, strict=False):
            yield replace(row, source=NAME)

    def _queries(self, conditions: Conditions, *, seed: int) -> list[str]:
        """Prompts of the slice's search items; the slice's own values in words where it has none."""
        prompts = sorted({item.prompt for item in self._shelf.items if matches(item.axes, conditions)})
        if not prompts:
            return [" ".join(value for _, value in conditions)] if conditions else []
        return random.Random(seed).sample(prompts, min(self._shelf.settings.queries, len(prompts)))

    def _rankings(self, queries: Sequence[str], conditions: Conditions) -> Iterator[list[str]]:
        settings = self._shelf.settings
        if not queries or not self._table.row_count:
            return
        # rows of other runs lie in the table too: they must not push ours beyond the limit
        limit = settings.top + max(0, self._table.row_count - len(self._rows))
        if settings.mode != "vectors":
            yield from (self._table.by_text(query, conditions=conditions, limit=limit) for query in queries)
        if settings.mode != "bm25":
            vectors = self._table.embed(queries)
            yield from (self._table.by_vector(vector, conditions=conditions, limit=limit) for vector in vectors)


def open_retrieval(folder: Path, *, embedding: Embedding) -> Callable[[Shelf], Sequence[Source]]:
    """Brings a shelf's table in this folder up to date, and searches it. A killed build goes on at the next plan."""

    def opened(shelf: Shelf) -> Sequence[Source]:
        own = folder / shelf.name
        embedder = _embedder(own, shelf, embedding=embedding)
        table = RetrievalTable(own / "table", embedder=embedder)

        def on_progress(done: int, total: int) -> None:
            log.info("retrieval table grows", extra={"rows": done, "of": total, "shelf": shelf.name})
            if shelf.is_stopping():
                raise Interrupted(
                    f"the service stops after {done} of {total} rows of the retrieval table; they are kept"
                )

        added = table.bring(shelf.pool, on_progress=on_progress)
        log.info("retrieval table ready", extra={"added": added, "rows": table.row_count, "shelf": shelf.name})
        return [RetrievalSource(table, shelf)]

    return opened


def _embedder(folder: Path, shelf: Shelf, *, embedding: Embedding) -> Embeds:
    """The embedder that the table's vectors came from; a new one is fitted to the pool and kept beside the table."""
    named, state = folder / "embedder.json", folder / "embedder.state"
    if named.exists():
        return embedding.restored(json.loads(named.read_text())["name"], state.read_bytes())
    prompts = [row.prompt for row in shelf.pool]
    chosen = random.Random(0).sample(prompts, min(FIT_SAMPLE, len(prompts)))
    embedder, name, learnt = embedding.fitted(chosen)
    folder.mkdir(parents=True, exist_ok=True)
    state.write_bytes(learnt)
    temporary = named.with_suffix(".tmp")
    temporary.write_text(json.dumps({"name": name}))
    temporary.replace(named)  # last: a name without its state would be taken for a whole embedder
    return embedder
