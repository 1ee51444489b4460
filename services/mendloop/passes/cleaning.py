"""Runs a pass that drops rows: edges from the engine, settled in order, and the corpus written without those rows.

Memory holds one bit a row beside what a part needs.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mendloop.passes import marks
from mendloop.passes.corpus import PART, PART_SPAN, ROW, Corpus, write_part
from mendloop.passes.engine import Chain, Engine
from mendloop.passes.pool import read_group, scatter

OF = "of"
"""The earlier row that a row repeats, or one of the constants below."""
IS_ITEM, HOLDS_ITEM, NOT_COMPARED = -1, -2, -3
EDGES = pa.schema([(PART, pa.int64()), (ROW, pa.int64()), (OF, pa.int64())])
"""What the last function of a dropping pass gives: a row, the part that it lies in, and why it should go."""
REASONS = {IS_ITEM: marks.IS_ITEM, HOLDS_ITEM: marks.HOLDS_ITEM}


@dataclass(frozen=True, slots=True)
class Pass:
    """A chain that gives edges. reason is said of a row that repeats an earlier one."""

    name: str
    chain: Chain
    reason: str


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What a pass left. dropped counts by reason; not_compared are rows that were compared with few of their likes."""

    corpus: Corpus
    row_count: int
    kept_count: int
    dropped: Mapping[str, int]
    not_compared: int


def edges_of(rows: NDArray[np.int64], of: NDArray[np.int64]) -> pa.RecordBatch:
    """Edges as a batch."""
    return pa.RecordBatch.from_arrays([pa.array(rows // PART_SPAN), pa.array(rows), pa.array(of)], schema=EDGES)


def run_pass(corpus: Corpus, wanted: Pass, *, engine: Engine, into: Path, spill: Path | None = None) -> Cleaned:
    """Write the corpus without the rows that the pass drops. What stands in `into` is replaced.

    A row goes where a row that it repeats stays: the first of its likes is kept, as where rows come one by one.
    """
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    with TemporaryDirectory(prefix="mendloop-edges-", dir=spill) as folder:
        files = scatter(engine.run(corpus.parts(), wanted.chain), key=PART, folder=Path(folder) / "edges")
        drops = Path(folder) / "drops"
        drops.mkdir()
        tally = _settle((read_group(file) for file in files), drops, corpus.row_bound())
        counts = list(engine.run(corpus.parts(), Chain(_Rewrite(str(drops), str(into)))))
    kept = sum(int(value) for batch in counts for value in batch.column("kept").to_pylist())
    not_compared = tally.pop(NOT_COMPARED, 0)
    dropped = {REASONS.get(of, wanted.reason): count for of, count in sorted(tally.items()) if count}
    cleaned = Cleaned(Corpus(into), kept + sum(dropped.values()), kept, dropped, not_compared)
    _write_summary(cleaned, name=wanted.name)
    return cleaned


def _settle(edges: Iterator[pa.RecordBatch], drops: Path, row_bound: int) -> Counter[int]:
    """Write the dropped rows of each part; counts by reason, 0 for rows that repeat another."""
    is_dropped = bytearray(row_bound // 8 + 1)
    tally: Counter[int] = Counter()
    for batch in edges:
        gone: list[int] = []
        rows, of = batch.column(ROW).to_numpy(), batch.column(OF).to_numpy()
        order = np.lexsort((of, rows))
        for row, earlier in zip(rows[order].tolist(), of[order].tolist(), strict=True):
            if earlier == NOT_COMPARED:
                tally[NOT_COMPARED] += 1
                continue
            if _bit(is_dropped, row) or (earlier >= 0 and _bit(is_dropped, earlier)):
                continue
            is_dropped[row >> 3] |= 1 << (row & 7)
            gone.append(row)
            tally[min(earlier, 0)] += 1
        if gone:
            number = int(batch.column(PART)[0].as_py())
            pq.write_table(pa.table({ROW: pa.array(gone, pa.int64())}), Corpus(drops).part_path(number))
    return tally


def _bit(bits: bytearray, at: int) -> bool:
    return bool(bits[at >> 3] >> (at & 7) & 1)


@dataclass(frozen=True, slots=True)
class _Rewrite:
    """Writes a part without its dropped rows; tells how many are left."""

    drops: str
    into: str

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        kept = batch
        if batch.num_rows:
            number = int(batch.column(ROW)[0].as_py()) // PART_SPAN
            drops = Corpus(Path(self.drops)).part_path(number)
            if drops.exists():
                gone = pq.ParquetFile(drops).read(use_threads=False).column(ROW).to_numpy()
                kept = batch.filter(pa.array(~np.isin(batch.column(ROW).to_numpy(), gone)))
            if kept.num_rows:
                write_part(pa.Table.from_batches([kept]), Corpus(Path(self.into)).part_path(number))
        return pa.RecordBatch.from_pydict({"kept": [kept.num_rows]})


def _write_summary(cleaned: Cleaned, *, name: str) -> None:
    document = {
        "pass": name,
        "rows": cleaned.row_count,
        "kept": cleaned.kept_count,
        "dropped": dict(cleaned.dropped),
        "not_compared": cleaned.not_compared,
    }
    path = cleaned.corpus.folder / "pass.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(document, indent=1, sort_keys=True))
    os.replace(temporary, path)
