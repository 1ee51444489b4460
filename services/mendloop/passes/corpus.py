"""A corpus on disk: Parquet parts of a fixed number of rows, each row with its number. Knows rows; knows no pass.

A part keeps its name and its rows' numbers when a pass drops some of them, so that row // PART_SPAN names the part.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mendloop.core.errors import CorruptArtifact

ROW = "row"
"""Number of a row in the corpus as it was written first."""
PART = "part"
PART_SPAN = 131_072
"""Row numbers that belong to a part: it has no more rows than these."""
PART_ROWS = 65_536
"""Rows of a part unless the writer says otherwise: what a worker holds at a time."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """A folder of parts that every worker can read."""

    folder: Path

    def parts(self) -> list[Path]:
        """Files of the parts, in order."""
        return sorted(self.folder.glob("part-*.parquet"))

    def part_path(self, number: int) -> Path:
        """Where a part lies or would lie."""
        return self.folder / f"part-{number:06d}.parquet"

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Every part as one batch, in order."""
        return (read_part(path) for path in self.parts())

    def row_bound(self) -> int:
        """A number above every row's."""
        parts = self.parts()
        return (number_of(parts[-1]) + 1) * PART_SPAN if parts else 0

    def count(self) -> int:
        """Rows of all parts, read from their footers."""
        return sum(int(pq.ParquetFile(path).metadata.num_rows) for path in self.parts())


def number_of(part: Path) -> int:
    """The number of a part's file."""
    return int(part.stem.removeprefix("part-"))


def write_corpus(batches: Iterable[pa.RecordBatch], folder: Path, *, part_rows: int = PART_ROWS) -> Corpus:
    """Cut batches of any size into numbered parts. At most one part and one batch are in memory."""
    if not 1 <= part_rows <= PART_SPAN:
        raise ValueError(f"part_rows is {part_rows}; a part has 1 to {PART_SPAN} rows")
    corpus = Corpus(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for number, table in enumerate(_cut(batches, part_rows=part_rows)):
        first = number * PART_SPAN
        rows = pa.array(range(first, first + table.num_rows), pa.int64())
        write_part(table.append_column(ROW, rows), corpus.part_path(number))
    return corpus


def read_part(path: Path) -> pa.RecordBatch:
    """A part as one batch. Raises CorruptArtifact where it cannot be read."""
    try:
        # one thread: processes share the cores, and a scanner's threads may abort a process at exit (arrow#34314)
        table = pq.ParquetFile(path).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise CorruptArtifact(f"part {path} cannot be read: {error}; write the corpus again") from error
    return one_batch(table)


def write_part(table: pa.Table, path: Path) -> None:
    """Write whole or not at all: a worker may be killed, and two may do the same work."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        pq.write_table(table, temporary, compression="zstd")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def one_batch(table: pa.Table) -> pa.RecordBatch:
    """The rows of a table as one batch; one without rows where the table has none."""
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _cut(batches: Iterable[pa.RecordBatch], *, part_rows: int) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        while count + batch.num_rows >= part_rows:
            room = part_rows - count
            yield pa.Table.from_batches([*held, batch.slice(0, room)])
            held, count, batch = [], 0, batch.slice(room)
        if batch.num_rows:
            held, count = [*held, batch], count + batch.num_rows
    if held:
        yield pa.Table.from_batches(held)
