"""Duplicates over a corpus: the same prompt, and almost the same prompt with the same answer. Knows rows' texts.

Near-duplicates by MinHash with banded look-up; every candidate pair is confirmed on its trigrams, by the definition of
`mendloop.passes.texts`. A band's key holds the answer too, so that only rows with one answer meet.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasketch import MinHashLSH
from numpy.typing import NDArray

from mendloop.core.records import fingerprint
from mendloop.passes.cleaning import EDGES, NOT_COMPARED, OF, Pass, edges_of
from mendloop.passes.corpus import PART, PART_SPAN, ROW, Corpus
from mendloop.passes.engine import Chain, Together
from mendloop.passes.hashing import U64, Runs, combined, min_hashes, runs, word_hash
from mendloop.passes.texts import MISS_WEIGHT, SHINGLE_WORDS, THRESHOLD, padded_words

PERMUTATIONS = 64
COMPARED = 16
"""Rows of one band that a row is compared with: its first ones. More are hardly ever unlike one another."""
BUCKET, MARK, BAND, TRIGRAMS = "bucket", "mark", "band", "trigrams"


def exact_duplicates(corpus: Corpus) -> Pass:
    """Rows whose prompt, in lower case with single spaces, an earlier row has: what the funnel calls a duplicate."""
    marks = _Marks(max(1, len(corpus.parts())))
    return Pass(
        "exact-duplicates", Chain(marks, (Together(BUCKET, _same_mark),)), "its prompt is that of an earlier row"
    )


def near_duplicates(corpus: Corpus, *, threshold: float = THRESHOLD) -> Pass:
    """Rows that say almost what an earlier row says, with the same answer."""
    chain = Chain(
        _Bands(threshold, max(1, len(corpus.parts()))),
        (
            Together(BUCKET, _pairs),
            Together(PART, _WithTrigrams(str(corpus.folder))),
            Together(PART, _Confirmed(str(corpus.folder), threshold)),
        ),
    )
    return Pass("near-duplicates", chain, "almost an earlier row, same answer")


@dataclass(frozen=True, slots=True)
class _Marks:
    """Fingerprint of each row, in one of as many buckets as there are parts: a bucket is as large as a part."""

    bucket_count: int

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        marks = [bytes.fromhex(fingerprint(prompt)) for prompt in batch.column("prompt").to_pylist()]
        buckets = [int.from_bytes(mark[:8], "little") % self.bucket_count for mark in marks]
        return pa.RecordBatch.from_arrays(
            [batch.column(ROW), pa.array(marks, pa.binary(32)), pa.array(buckets, pa.int64())],
            names=[ROW, MARK, BUCKET],
        )


def _same_mark(batch: pa.RecordBatch) -> pa.RecordBatch:
    rows = batch.column(ROW).to_numpy()
    marks = np.frombuffer(b"".join(batch.column(MARK).to_pylist()), dtype="V32")
    first: dict[bytes, int] = {}
    of = np.empty(len(rows), np.int64)
    for at in np.argsort(rows, kind="stable").tolist():
        of[at] = first.setdefault(marks[at].tobytes(), int(rows[at]))
    is_later = of != rows
    return edges_of(rows[is_later], of[is_later])


@dataclass(frozen=True, slots=True)
class _Bands:
    """One line per row and band: a key that rows share whose trigrams agree in the band and whose answers are one."""

    threshold: float
    bucket_count: int

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        rows = batch.column(ROW).to_numpy()
        least = min_hashes(_trigrams(batch.column("prompt").to_pylist()), permutations=PERMUTATIONS)
        answers = np.array(
            [word_hash(" ".join(text.split())) for text in batch.column("completion").to_pylist()], np.uint64
        )
        bands, width = _banding(self.threshold)
        keys = np.concatenate(
            [
                combined(
                    np.column_stack(
                        [least[:, at * width : (at + 1) * width], answers, np.full(len(rows), at, np.uint64)]
                    )
                )
                for at in range(bands)
            ]
        )
        buckets = (keys % np.uint64(self.bucket_count)).astype(np.int64)
        return pa.RecordBatch.from_arrays(
            [pa.array(np.tile(rows, bands)), pa.array(keys), pa.array(buckets)], names=[ROW, BAND, BUCKET]
        )


def _pairs(batch: pa.RecordBatch) -> pa.RecordBatch:
    """(row, earlier row) of every two rows that share a band, grouped by where the earlier one lies."""
    rows, keys = batch.column(ROW).to_numpy(), batch.column(BAND).to_numpy()
    order = np.lexsort((rows, keys))
    rows, keys = rows[order], keys[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.zeros(0, np.int64)
    place = np.arange(len(rows)) - np.repeat(starts, np.diff([*starts, len(rows)]))
    later, earlier = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for nth in range(COMPARED):
        is_later = place > nth
        later.append(rows[is_later])
        earlier.append(rows[(np.arange(len(rows)) - place + nth)[is_later]])
    crowded = rows[place > COMPARED]
    later.append(crowded)
    earlier.append(np.full(len(crowded), NOT_COMPARED))
    pairs = np.unique(np.column_stack([np.concatenate(later), np.concatenate(earlier)]), axis=0)
    lies_in = np.where(pairs[:, 1] == NOT_COMPARED, pairs[:, 0], pairs[:, 1]) // PART_SPAN
    return pa.RecordBatch.from_arrays([pa.array(lies_in), pa.array(pairs[:, 0]), pa.array(pairs[:, 1])], schema=EDGES)


@dataclass(frozen=True, slots=True)
class _WithTrigrams:
    """Adds the hashed trigrams of the earlier row, and groups by where the later one lies."""

    folder: str

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        pairs = np.unique(np.column_stack([batch.column(ROW).to_numpy(), batch.column(OF).to_numpy()]), axis=0)
        of = pairs[:, 1]
        trigrams = _OfRows(Corpus(Path(self.folder)), of[of >= 0])
        return pa.RecordBatch.from_arrays(
            [
                pa.array(pairs[:, 0] // PART_SPAN),
                pa.array(pairs[:, 0]),
                pa.array(of),
                pa.array([trigrams.of(row) if row >= 0 else [] for row in of.tolist()], pa.list_(pa.uint64())),
            ],
            names=[PART, ROW, OF, TRIGRAMS],
        )


@dataclass(frozen=True, slots=True)
class _Confirmed:
    """The pairs whose trigrams are alike enough."""

    folder: str
    threshold: float

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        rows, of = batch.column(ROW).to_numpy(), batch.column(OF).to_numpy()
        own = _OfRows(Corpus(Path(self.folder)), rows)
        column = batch.column(TRIGRAMS)
        flat, ends = column.flatten().to_numpy(), column.offsets.to_numpy() - column.offsets[0].as_py()
        alike = [
            int(of[at]) == NOT_COMPARED or _jaccard(own.of(row), flat[ends[at] : ends[at + 1]]) >= self.threshold
            for at, row in enumerate(rows.tolist())
        ]
        kept = np.array(alike, np.bool_)
        edges = np.unique(np.column_stack([rows[kept], of[kept]]), axis=0)
        return edges_of(edges[:, 0], edges[:, 1])


class _OfRows:
    """Distinct hashed trigrams of some rows of one part."""

    def __init__(self, corpus: Corpus, rows: NDArray[np.int64]) -> None:
        wanted = np.unique(rows)
        self._at = {row: at for at, row in enumerate(wanted.tolist())}
        self._trigrams = _trigrams([])
        if len(wanted):
            # only the two columns: a part's axes and answers stay on the disk
            table = _columns(corpus.part_path(int(wanted[0]) // PART_SPAN))
            table = table.filter(pa.array(np.isin(table.column(ROW).to_numpy(), wanted)))
            self._trigrams = _trigrams(table.column("prompt").to_pylist())

    def of(self, row: int) -> U64:
        """The trigrams of a row, sorted."""
        return np.unique(self._trigrams.of(self._at[row]))


def _columns(path: Path) -> pa.Table:
    return pq.ParquetFile(path).read(columns=[ROW, "prompt"], use_threads=False)


def _trigrams(prompts: list[str]) -> Runs:
    return runs([padded_words(prompt) for prompt in prompts], length=SHINGLE_WORDS)


def _jaccard(left: U64, right: U64) -> float:
    shared = len(np.intersect1d(left, right, assume_unique=True))
    return shared / (len(left) + len(right) - shared)


@cache
def _banding(threshold: float) -> tuple[int, int]:
    """Bands and hashes of a band, chosen as the index in memory chooses them."""
    index = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, weights=(1 - MISS_WEIGHT, MISS_WEIGHT))
    return int(index.b), int(index.r)
