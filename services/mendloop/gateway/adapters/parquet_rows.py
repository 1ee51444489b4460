"""Rows of one Parquet artifact, by number: columns are read in batches and only as far as they are needed.

The compressed bytes are kept in memory, never the table. One thread reads a file (see artifacts/tables.py for why).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.core.errors import CorruptArtifact

BATCH_ROWS = 8192
Rows = np.ndarray[Any, np.dtype[np.int64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


class ParquetRows:
    """A Parquet artifact. Raises CorruptArtifact where it is none, or lacks one of the columns that must be there."""

    def __init__(self, store: ArtifactStore, artifact: Artifact, *, needed: Sequence[str]) -> None:
        self.artifact = artifact
        self._data = pa.py_buffer(store.get(artifact))
        try:
            self._metadata = pq.read_metadata(pa.BufferReader(self._data))
            self.names: list[str] = self._metadata.schema.to_arrow_schema().names
        except pa.ArrowException as error:
            raise CorruptArtifact(f"artifact {artifact.sha256[:12]} is not Parquet: {error}") from error
        missing = sorted(set(needed) - set(self.names))
        if missing:
            raise CorruptArtifact(f"artifact {artifact.sha256[:12]} lacks the column(s) {', '.join(missing)}")

    @property
    def row_count(self) -> int:
        """Rows of the table."""
        return int(self._metadata.num_rows)

    @property
    def byte_count(self) -> int:
        """Bytes that are held."""
        return int(self._data.size)

    def batches(self, columns: Sequence[str], *, row_groups: Sequence[int] | None = None) -> Iterator[pa.RecordBatch]:
        """Some columns of all rows, or of some row groups, batch by batch."""
        groups = list(range(self._metadata.num_row_groups)) if row_groups is None else list(row_groups)
        file = pq.ParquetFile(pa.BufferReader(self._data), metadata=self._metadata)
        known = [name for name in columns if name in self.names]
        try:
            yield from file.iter_batches(batch_size=BATCH_ROWS, row_groups=groups, columns=known, use_threads=False)
        except (pa.ArrowException, OSError) as error:  # a damaged page is an OSError
            raise CorruptArtifact(f"artifact {self.artifact.sha256[:12]} cannot be read: {error}") from error

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of all rows."""
        chunks = [batch.column(0) for batch in self.batches([name])]
        return pa.chunked_array(chunks) if chunks else pa.chunked_array([], type=pa.string())

    def take(self, rows: Rows, columns: Sequence[str]) -> list[dict[str, Any]]:
        """The rows of these numbers, in the order asked for."""
        found: dict[int, dict[str, Any]] = {}
        wanted = np.unique(rows)
        start = 0
        for group in range(self._metadata.num_row_groups):
            end = start + self._metadata.row_group(group).num_rows
            of_group = wanted[(wanted >= start) & (wanted < end)]
            if of_group.size:
                found.update(self._take_of_group(group, of_group, start=start, columns=columns))
            start = end
        return [found[int(row)] for row in rows]

    def _take_of_group(
        self, group: int, wanted: Rows, *, start: int, columns: Sequence[str]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        last = int(wanted[-1])
        for batch in self.batches(columns, row_groups=[group]):
            end = start + batch.num_rows
            here = wanted[(wanted >= start) & (wanted < end)]
            if here.size:
                yield from zip(here.tolist(), batch.take(pa.array(here - start)).to_pylist(), strict=True)
            start = end
            if start > last:
                return
