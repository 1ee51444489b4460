"""Pages of outcomes and of batches from their Parquet artifacts.

Holds the open store alone: what a sealed store has cannot be read here, and a row that says it is sealed is shown to
nobody and counted nowhere. Of a table the small columns are indexed, texts are read for the rows of one page.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.core.errors import CorruptArtifact
from mendloop.gateway.adapters.parquet_rows import Mask, ParquetRows, Rows
from mendloop.gateway.domain.outcome_lines import (
    LONGEST_TEXT,
    OF_A_CHANGE,
    RIGHT,
    Before,
    ExampleLine,
    OutcomeFilter,
    OutcomeLine,
    shown,
    why_failed,
)
from mendloop.gateway.domain.paging import Page, cut, decode_key
from mendloop.gateway.domain.refusals import TooLarge
from mendloop.report.batches import batch_document
from mendloop.runs.parts import Batch

MOST_BYTES = 256 * 1024 * 1024
"""Largest artifact that is opened here."""
KEEP_BYTES = 256 * 1024 * 1024
KEEP_SELECTIONS = 64
_TEXTS = ("item_id", "prompt", "target", "output")
_NEEDED = (*_TEXTS, "split", "score", "stop_reason", "extraction", "repeat_index", "axes")
_SHOWN = (*_NEEDED, "first_wrong_step", "wrong_operation")
_EXAMPLE = ("prompt", "source")
K = TypeVar("K")
V = TypeVar("V")


class _Kept(Generic[K, V]):
    """The last used values up to a size. No lock is held while a value is made, so that a slow one delays nobody."""

    def __init__(self, *, most: int, size: Callable[[V], int]) -> None:
        self._most, self._size, self._lock = most, size, threading.Lock()
        self._values: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of a key, made where it is not held."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._lock:
            self._values[key] = value
            while len(self._values) > 1 and sum(map(self._size, self._values.values())) > self._most:
                self._values.popitem(last=False)
        return value


class _Indexed:
    """A table of outcomes with an index of its small columns."""

    def __init__(self, store: ArtifactStore, artifact: Artifact) -> None:
        self.rows = ParquetRows(store, artifact, needed=_NEEDED)
        self.is_open = ~_mask(pc.equal(self.rows.column("split"), "sealed"), self.rows.row_count)
        self.is_right = _mask(pc.greater_equal(self.rows.column("score"), RIGHT), self.rows.row_count)
        repeats = pc.cast(self.rows.column("repeat_index"), pa.string())
        self.keys = pc.binary_join_element_wise(self.rows.column("item_id"), repeats, "\x1f")

    @property
    def byte_count(self) -> int:
        """Bytes that are held."""
        return self.rows.byte_count + int(self.keys.nbytes)


class StoredTables:
    """Reads artifacts of the open store.

    Raises CorruptArtifact, Retryable, TooLarge, and ValueError for a cursor that no page of the artifact gave.
    """

    def __init__(self, store: ArtifactStore, *, keep_bytes: int = KEEP_BYTES) -> None:
        self._store = store
        self._tables: _Kept[str, _Indexed] = _Kept(most=keep_bytes, size=lambda table: table.byte_count)
        self._joins: _Kept[tuple[str, str], Rows] = _Kept(most=KEEP_SELECTIONS, size=lambda rows: 1)
        self._chosen: _Kept[Any, Rows] = _Kept(most=KEEP_SELECTIONS, size=lambda rows: 1)

    def outcomes(
        self, artifact: Artifact, *, baseline: Artifact | None, wanted: OutcomeFilter, limit: int, cursor: str = ""
    ) -> Page[OutcomeLine]:
        """Outcomes in the order of the table, each beside the baseline's. Without a baseline nothing broke or was
        fixed."""
        table, other = self._table(artifact), None
        places = np.full(table.rows.row_count, -1)
        if baseline is not None:
            other = found = self._table(baseline)
            places = self._joins.get((artifact.sha256, baseline.sha256), lambda: _places(table, found))
        key = (artifact.sha256, baseline.sha256 if baseline else "", wanted)
        chosen = self._chosen.get(key, lambda: _choose(table, other, wanted, places=places))
        page, rest = _page(chosen, limit=limit, cursor=cursor, sha256=artifact.sha256)
        rows = table.rows.take(page, _SHOWN)
        before = _before(other, places[page]) if other is not None else [None] * len(rows)
        lines = [_line(row, before=answer) for row, answer in zip(rows, before, strict=True)]
        return _cut(lines, page, rest=rest, total=len(chosen), sha256=artifact.sha256)

    def examples(
        self, artifact: Artifact, *, slices: Mapping[str, str], limit: int, cursor: str = ""
    ) -> Page[ExampleLine]:
        """Examples of a batch, or preferences; slices maps a slice in words to its id."""
        rows = _opened(self._store, artifact, needed=_EXAMPLE)
        everything = np.arange(rows.row_count)
        page, rest = _page(everything, limit=limit, cursor=cursor, sha256=artifact.sha256)
        found = rows.take(page, (*_EXAMPLE, "completion", "chosen", "rejected"))
        lines = [_example(row, slices=slices) for row in found]
        return _cut(lines, page, rest=rest, total=rows.row_count, sha256=artifact.sha256)

    def shifts(self, batch: Batch, *, run_id: str) -> list[dict[str, object]]:
        """Values of each axis whose share of the training data changes most; empty where nobody recorded it."""
        try:
            found: list[dict[str, object]] = batch_document(batch, run_id=run_id, store=self._store)["shifts"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptArtifact(f"the lineage of a batch of run {run_id} is damaged: {error}") from error
        return found

    def document(self, artifact: Artifact) -> dict[str, object]:
        """A JSON object. Raises CorruptArtifact where it is none."""
        try:
            found = json.loads(self._store.get(artifact))
        except ValueError as error:
            raise CorruptArtifact(f"artifact {artifact.sha256[:12]} is not JSON: {error}") from error
        if not isinstance(found, dict):
            raise CorruptArtifact(f"artifact {artifact.sha256[:12]} is no JSON object")
        return found

    def _table(self, artifact: Artifact) -> _Indexed:
        _check_size(artifact)
        return self._tables.get(artifact.sha256, lambda: _Indexed(self._store, artifact))


def _opened(store: ArtifactStore, artifact: Artifact, *, needed: Sequence[str]) -> ParquetRows:
    _check_size(artifact)
    return ParquetRows(store, artifact, needed=needed)


def _check_size(artifact: Artifact) -> None:
    if artifact.byte_count > MOST_BYTES:
        raise TooLarge(
            f"the table has {artifact.byte_count} bytes; at most {MOST_BYTES} are opened here: read the artifact"
            f" {artifact.sha256[:12]} from the store"
        )


def _choose(table: _Indexed, other: _Indexed | None, wanted: OutcomeFilter, *, places: Rows) -> Rows:
    chosen = table.is_open.copy()
    if wanted.status in ("right", "fixed"):
        chosen &= table.is_right
    elif wanted.status != "all":
        chosen &= ~table.is_right
    if wanted.status in OF_A_CHANGE:
        known = places >= 0
        chosen &= known
        if other is not None:
            chosen[known] &= other.is_right[places[known]] == (wanted.status == "broke")
    if wanted.conditions:
        chosen &= _in_slice(table.rows, wanted.conditions)
    if wanted.q:
        chosen &= _says(table.rows, wanted.q)
    return np.flatnonzero(chosen)


def _places(table: _Indexed, other: _Indexed) -> Rows:
    """For each row its number in the other table; -1 where that has none, or a sealed one."""
    found = pc.fill_null(pc.index_in(table.keys, value_set=other.keys.combine_chunks()), -1)
    places = np.asarray(found.to_numpy(), dtype=np.int64)
    places[(places >= 0) & ~other.is_open[places]] = -1
    return places


def _in_slice(rows: ParquetRows, conditions: Sequence[tuple[str, str]]) -> Mask:
    """Rows whose axes have every (axis, value), as core.tasks.matches says it."""
    masks = []
    for batch in rows.batches(["axes"]):
        axes = batch.column(0)
        mask = np.ones(len(axes), dtype=bool)
        for axis, value in conditions:
            mask &= _has(axes, axis, value)
        masks.append(mask)
    return np.concatenate(masks) if masks else np.zeros(0, dtype=bool)


def _has(axes: pa.MapArray, axis: str, value: str) -> Mask:
    """Entries of the maps lie one after another; each value knows its entry, each entry its row."""
    entries = pa.ListArray.from_arrays(axes.offsets, axes.items)
    row_of_entry = np.asarray(pc.list_parent_indices(entries))
    values = entries.flatten()
    start = axes.offsets[0].as_py()
    keys = axes.keys.slice(start, len(values))
    entry_of_value = np.asarray(pc.list_parent_indices(values))
    is_value = np.asarray(pc.equal(values.flatten(), value))
    hit = np.zeros(len(values), dtype=bool)
    hit[entry_of_value[is_value]] = True
    hit &= np.asarray(pc.equal(keys, axis))
    found = np.zeros(len(axes), dtype=bool)
    found[row_of_entry[hit]] = True
    return found


def _says(rows: ParquetRows, q: str) -> Mask:
    """Rows with the words in any of their texts, in any case."""
    masks = []
    for batch in rows.batches(_TEXTS):
        mask = np.zeros(batch.num_rows, dtype=bool)
        for column in batch.columns:
            mask |= _mask(pc.match_substring(column, q, ignore_case=True), batch.num_rows)
        masks.append(mask)
    return np.concatenate(masks) if masks else np.zeros(0, dtype=bool)


def _before(other: _Indexed, places: Rows) -> list[Before | None]:
    known = places[places >= 0]
    answers = {
        int(place): Before(shown(row["output"]), row["score"])
        for place, row in zip(known, other.rows.take(known, ("output", "score")), strict=True)
    }
    return [answers.get(int(place)) for place in places]


def _line(row: Mapping[str, Any], *, before: Before | None) -> OutcomeLine:
    return OutcomeLine(
        item_id=row["item_id"],
        repeat_index=row["repeat_index"],
        prompt=shown(row["prompt"]),
        target=shown(row["target"]),
        output=shown(row["output"]),
        score=row["score"],
        is_right=row["score"] >= RIGHT,
        stop_reason=row["stop_reason"],
        failure=why_failed(
            row["score"],
            stop_reason=row["stop_reason"],
            extraction=row["extraction"],
            first_wrong_step=row.get("first_wrong_step"),
            wrong_operation=row.get("wrong_operation") or "",
        ),
        axes={axis: tuple(values) for axis, values in row["axes"] or ()},
        before=before,
        cut=tuple(name for name in ("prompt", "target", "output") if len(row[name]) > LONGEST_TEXT),
    )


def _example(row: Mapping[str, Any], *, slices: Mapping[str, str]) -> ExampleLine:
    """A source begins with the slice that the example was made for, in words."""
    name = str(row["source"]).partition(": ")[0]
    completion = row.get("completion", row.get("chosen")) or ""
    rejected = row.get("rejected") or ""
    return ExampleLine(shown(row["prompt"]), shown(completion), shown(rejected), row["source"], slices.get(name, ""))


def _page(chosen: Rows, *, limit: int, cursor: str, sha256: str) -> tuple[Rows, bool]:
    """Row numbers of a page, and whether more follow. A cursor names the artifact and the last row."""
    after = decode_key(cursor, (str, int))
    if after is not None and after[0] != sha256[:16]:
        raise ValueError(f"{cursor[:40]!r} is a cursor of another table; begin without one")
    start = int(np.searchsorted(chosen, after[1], side="right")) if after is not None else 0
    return chosen[start : start + limit], start + limit < len(chosen)


def _cut(lines: Sequence[V], page: Rows, *, rest: bool, total: int, sha256: str) -> Page[V]:
    keys = [(sha256[:16], int(row)) for row in page]
    padded = [*lines, lines[-1]] if rest else lines
    return cut(padded, limit=max(1, len(page)), total=total, keys=keys)


def _mask(column: Any, row_count: int) -> Mask:
    if row_count == 0:
        return np.zeros(0, dtype=bool)
    return np.asarray(pc.fill_null(column, False).to_numpy(zero_copy_only=False), dtype=bool)
