"""A table of outcomes with an index of its small columns: which rows a filter chooses, and where another table has
them.

Texts are not held; a search reads them batch by batch.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.gateway.adapters.parquet_rows import Mask, ParquetRows, Rows
from mendloop.gateway.domain.outcome_lines import OF_A_CHANGE, RIGHT, OutcomeFilter

TEXTS = ("item_id", "prompt", "target", "output")
NEEDED = (*TEXTS, "split", "score", "stop_reason", "extraction", "repeat_index", "axes")
_BETWEEN = "\x1f"


class OutcomeIndex:
    """The small columns of a table. A row that says it is sealed is in no selection."""

    def __init__(self, store: ArtifactStore, artifact: Artifact) -> None:
        self.rows = ParquetRows(store, artifact, needed=NEEDED)
        count = self.rows.row_count
        self._is_open = ~_mask(pc.equal(self.rows.column("split"), "sealed"), count)
        self._is_right = _mask(pc.greater_equal(self.rows.column("score"), RIGHT), count)
        repeats = pc.cast(self.rows.column("repeat_index"), pa.string())
        self._keys = pc.binary_join_element_wise(self.rows.column("item_id"), repeats, _BETWEEN)

    @property
    def byte_count(self) -> int:
        """Bytes that are held, about."""
        return self.rows.byte_count + int(self._keys.nbytes) + 16 * self.rows.row_count

    def places_in(self, other: OutcomeIndex) -> Rows:
        """For each row its number in the other table, by item and repeat; -1 where that has none, or a sealed one."""
        found = pc.fill_null(pc.index_in(self._keys, value_set=other._keys.combine_chunks()), -1)
        places = np.asarray(found.to_numpy(), dtype=np.int64)
        places[(places >= 0) & ~other._is_open[places]] = -1
        return places

    def choose(self, wanted: OutcomeFilter, *, other: OutcomeIndex | None, places: Rows) -> Rows:
        """Numbers of the rows that a reader wants, rising. places are those of the other table."""
        chosen = self._is_open.copy()
        if wanted.status in ("right", "fixed"):
            chosen &= self._is_right
        elif wanted.status != "all":
            chosen &= ~self._is_right
        if wanted.status in OF_A_CHANGE:
            known = places >= 0
            chosen &= known
            if other is not None:
                chosen[known] &= other._is_right[places[known]] == (wanted.status == "broke")
        for axis, value in wanted.conditions:
            chosen &= self._has(axis, value)
        if wanted.q:
            chosen &= self._says(wanted.q)
        return np.flatnonzero(chosen)

    def _has(self, axis: str, value: str) -> Mask:
        """Rows with the value on the axis, as core.tasks.matches says it."""
        names, codes, rows = self._axis_values
        found = np.zeros(self.rows.row_count, dtype=bool)
        code = names.index(f"{axis}{_BETWEEN}{value}").as_py()
        if code >= 0:
            found[rows[codes == code]] = True
        return found

    @cached_property
    def _axis_values(self) -> tuple[pa.Array, Rows, Rows]:
        """Each axis value of the table; of each place where one stands, which one and in which row."""
        pairs, rows, start = [], [np.zeros(0, dtype=np.int64)], 0
        for batch in self.rows.batches(["axes"]):
            of_batch, at = _flattened(batch.column(0))
            pairs.append(of_batch)
            rows.append(at + start)
            start += batch.num_rows
        encoded = pa.concat_arrays([pa.array([], pa.string()), *pairs]).dictionary_encode()
        return encoded.dictionary, np.asarray(encoded.indices.to_numpy()), np.concatenate(rows)

    def _says(self, q: str) -> Mask:
        """Rows with the words in any of their texts, in any case."""
        masks = [np.zeros(0, dtype=bool)]
        for batch in self.rows.batches(TEXTS):
            mask = np.zeros(batch.num_rows, dtype=bool)
            for column in batch.columns:
                mask |= _mask(pc.match_substring(column, q, ignore_case=True), batch.num_rows)
            masks.append(mask)
        return np.concatenate(masks)


def _flattened(axes: pa.MapArray) -> tuple[pa.Array, Rows]:
    """Axis and value of every entry as one string, and its row. Entries of all rows lie one after another."""
    offsets = axes.offsets.to_numpy()
    start, count = int(offsets[0]), int(offsets[-1] - offsets[0])
    keys, items = axes.keys.slice(start, count), axes.items.slice(start, count)
    lengths = np.asarray(pc.fill_null(pc.list_value_length(items), 0).to_numpy())
    entry = np.repeat(np.arange(count), lengths)
    row = np.repeat(np.arange(len(axes)), np.diff(offsets))
    pairs = pc.binary_join_element_wise(keys.take(pa.array(entry)), items.flatten(), _BETWEEN)
    return pairs, row[entry]


def _mask(column: Any, row_count: int) -> Mask:
    if row_count == 0:
        return np.zeros(0, dtype=bool)
    return np.asarray(pc.fill_null(column, False).to_numpy(zero_copy_only=False), dtype=bool)
