"""Clusters a corpus by the words of its prompts: fitted on a sample, then every row is assigned. Knows words.

The sample is the rows with the least hashes of their numbers: the same on every engine, whatever the order.
"""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from mendloop.axes.term_clusters import Clustering, cluster
from mendloop.passes.corpus import PART_SPAN, ROW, Corpus, write_part
from mendloop.passes.engine import Chain, Engine
from mendloop.passes.hashing import combined
from mendloop.passes.texts import words_of

CLUSTER = "cluster"
SAMPLE = 5_000


def fit_clusters(corpus: Corpus, *, engine: Engine, seed: int, most: int = 8, sample: int = SAMPLE) -> Clustering:
    """The clusters of a sample of the corpus. Raises ValueError for a corpus without rows."""
    drawn: list[tuple[int, str]] = []
    for batch in engine.run(corpus.parts(), Chain(_Sample(sample, seed))):
        found = zip(batch.column("lot").to_pylist(), batch.column("prompt").to_pylist(), strict=True)
        drawn = sorted([*drawn, *found])[:sample]
    return cluster([words_of(prompt) for _, prompt in drawn], seed=seed, most=most)


def assign_clusters(corpus: Corpus, clustering: Clustering, *, engine: Engine, into: Path) -> dict[int, int]:
    """Write the corpus with a column `cluster`; rows of each cluster."""
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    tally: Counter[int] = Counter()
    for batch in engine.run(corpus.parts(), Chain(_Assign(clustering, str(into)))):
        tally.update(dict(zip(batch.column(CLUSTER).to_pylist(), batch.column("count").to_pylist(), strict=True)))
    return dict(sorted(tally.items()))


@dataclass(frozen=True, slots=True)
class _Sample:
    size: int
    seed: int

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        rows = batch.column(ROW).to_numpy().astype(np.uint64)
        lots = combined(np.column_stack([rows, np.full(len(rows), self.seed, np.uint64)]))
        chosen = np.argsort(lots, kind="stable")[: self.size]
        prompts = batch.column("prompt").take(pa.array(chosen))
        return pa.RecordBatch.from_arrays([pa.array(lots[chosen]), prompts], names=["lot", "prompt"])


@dataclass(frozen=True, slots=True)
class _Assign:
    clustering: Clustering
    into: str

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        found = self.clustering.assigned([words_of(prompt) for prompt in batch.column("prompt").to_pylist()])
        if batch.num_rows:
            number = int(batch.column(ROW)[0].as_py()) // PART_SPAN
            table = pa.Table.from_batches([batch]).append_column(CLUSTER, pa.array(found, pa.int64()))
            write_part(table, Corpus(Path(self.into)).part_path(number))
        values, counts = np.unique(found, return_counts=True)
        return pa.RecordBatch.from_arrays([pa.array(values, pa.int64()), pa.array(counts)], names=[CLUSTER, "count"])
