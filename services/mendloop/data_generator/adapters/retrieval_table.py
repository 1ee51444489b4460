"""Examples in a LanceDB table: full text (BM25), vectors and axis values as a filter. Extra: mendloop[retrieval].

Every chunk of rows is committed by itself, so that a killed build goes on where it was. Nothing is ever deleted: two
runs may share a table. Search over vectors is exhaustive.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mendloop.axes.annotate import CLUSTER
from mendloop.axes.placing import Embeds
from mendloop.core.errors import Permanent
from mendloop.core.events import stable_hash
from mendloop.core.records import Example
from mendloop.core.tasks import Conditions

try:
    import lancedb
    from lancedb.index import FTS
except ImportError as error:
    raise Permanent("retrieval needs LanceDB: uv pip install 'mendloop[retrieval]'") from error

log = logging.getLogger(__name__)
TABLE = "examples"
CHUNK = 1_024


def key_of(example: Example) -> str:
    """The name of a row: the same example with other axis values is another row. Nodes of clusters are no part."""
    axes = sorted((axis, *values) for axis, values in example.axes.items() if axis != CLUSTER)
    return stable_hash(example.prompt, example.completion, json.dumps(axes))[:32]


class RetrievalTable:
    """The rows of one folder, with vectors of one embedder."""

    def __init__(self, folder: Path, *, embedder: Embeds) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._embedder = embedder
        self._database = lancedb.connect(str(folder))
        is_there = (folder / f"{TABLE}.lance").is_dir()
        self._table: Any = self._database.open_table(TABLE) if is_there else None

    @property
    def row_count(self) -> int:
        """Rows that are in the table."""
        return int(self._table.count_rows()) if self._table is not None else 0

    def bring(self, examples: Sequence[Example], *, on_progress: Callable[[int, int], None]) -> int:
        """Add the rows that the table lacks, and index them; how many were added.

        on_progress gets rows added and rows to add after each chunk, and may raise: what was added stays.
        """
        known = self._keys()
        missing = {key: row for row in examples if (key := key_of(row)) not in known}
        todo = list(missing.items())
        for start in range(0, len(todo), CHUNK):
            self._add(todo[start : start + CHUNK])
            on_progress(min(start + CHUNK, len(todo)), len(todo))
        if self._table is not None:
            self._index()
        return len(todo)

    def by_text(self, query: str, *, conditions: Conditions, limit: int) -> list[str]:
        """Keys of the rows whose words are most like the query's (BM25), best first."""
        if not any(letter.isalnum() for letter in query):
            return []
        search = self._table.search(query, query_type="fts", fts_columns="prompt")
        return self._keys_of(search, conditions, limit, ranked_by="_score")

    def by_vector(self, query: NDArray[np.float32], *, conditions: Conditions, limit: int) -> list[str]:
        """Keys of the rows whose vectors are nearest to the query's (cosine), best first."""
        search = self._table.search(query, query_type="vector", vector_column_name="vector")
        return self._keys_of(search.distance_type("cosine"), conditions, limit, ranked_by="_distance")

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of queries."""
        return self._embedder.embed(texts)

    def _keys_of(self, search: Any, conditions: Conditions, limit: int, *, ranked_by: str) -> list[str]:
        values = [f"{axis}={value}" for axis, value in conditions if axis != CLUSTER]
        if values:
            quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
            search = search.where(f"array_has_all(axes, [{quoted}])", prefilter=True)
        rows = search.select(["key", ranked_by]).limit(limit).to_arrow()  # unless it is asked for, each search warns
        found: list[str] = rows.column("key").to_pylist()
        return found

    def _keys(self) -> set[str]:
        if self._table is None:
            return set()
        return set(self._table.search().select(["key"]).limit(self.row_count).to_arrow().column("key").to_pylist())

    def _add(self, rows: Sequence[tuple[str, Example]]) -> None:
        vectors = self._embedder.embed([row.prompt for _, row in rows])
        width = vectors.shape[1]
        table = pa.table(
            {
                "key": pa.array([key for key, _ in rows], pa.string()),
                "prompt": pa.array([row.prompt for _, row in rows], pa.string()),
                "axes": pa.array([_values(row) for _, row in rows], pa.list_(pa.string())),
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), width),
            }
        )
        if self._table is None:
            self._table = self._database.create_table(TABLE, schema=table.schema, exist_ok=True)
        # not add: another process may have brought the same rows meanwhile
        self._table.merge_insert("key").when_not_matched_insert_all().execute(table)

    def _index(self) -> None:
        if not self._table.list_indices():
            # words as they are: stems and stop words of English mean nothing in a task's own language
            words = FTS(stem=False, remove_stop_words=False, ascii_folding=False)
            self._table.create_index("prompt", config=words)
        [index] = self._table.list_indices()
        if self._table.index_stats(index.name).num_unindexed_rows:
            self._table.optimize()
        log.info("retrieval table indexed", extra={"rows": self.row_count})


def _values(example: Example) -> list[str]:
    return sorted(f"{axis}={value}" for axis, values in example.axes.items() if axis != CLUSTER for value in values)
