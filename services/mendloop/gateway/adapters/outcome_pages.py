"""Pages of outcomes and of batches from their Parquet artifacts.

Holds the open store alone: what a sealed store has cannot be read here, and a row that says it is sealed is shown to
nobody and counted nowhere. Of a table the small columns are indexed, texts are read for the rows of one page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.core.errors import CorruptArtifact
from mendloop.gateway.adapters.kept import Kept
from mendloop.gateway.adapters.outcome_index import NEEDED, OutcomeIndex
from mendloop.gateway.adapters.parquet_rows import ParquetRows, Rows
from mendloop.gateway.domain.outcome_lines import (
    LONGEST_TEXT,
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
_SHOWN = (*NEEDED, "first_wrong_step", "wrong_operation")
_EXAMPLE = ("prompt", "source")
V = TypeVar("V")


class StoredTables:
    """Reads artifacts of the open store.

    Raises CorruptArtifact, Retryable, TooLarge, and ValueError for a cursor that no page of the artifact gave.
    """

    def __init__(self, store: ArtifactStore, *, keep_bytes: int = KEEP_BYTES) -> None:
        self._store = store
        self._tables: Kept[str, OutcomeIndex] = Kept(most=keep_bytes, size=lambda table: table.byte_count)
        self._joins: Kept[tuple[str, str], Rows] = Kept(most=KEEP_SELECTIONS, size=lambda rows: 1)
        self._chosen: Kept[Any, Rows] = Kept(most=KEEP_SELECTIONS, size=lambda rows: 1)

    def outcomes(
        self, artifact: Artifact, *, baseline: Artifact | None, wanted: OutcomeFilter, limit: int, cursor: str = ""
    ) -> Page[OutcomeLine]:
        """Outcomes in the order of the table, each beside the baseline's. Without a baseline nothing broke or was
        fixed."""
        table, other = self._table(artifact), None
        places = np.full(table.rows.row_count, -1)
        if baseline is not None:
            other = found = self._table(baseline)
            places = self._joins.get((artifact.sha256, baseline.sha256), lambda: table.places_in(found))
        key = (artifact.sha256, baseline.sha256 if baseline else "", wanted)
        chosen = self._chosen.get(key, lambda: table.choose(wanted, other=other, places=places))
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

    def _table(self, artifact: Artifact) -> OutcomeIndex:
        _check_size(artifact)
        return self._tables.get(artifact.sha256, lambda: OutcomeIndex(self._store, artifact))


def _opened(store: ArtifactStore, artifact: Artifact, *, needed: Sequence[str]) -> ParquetRows:
    _check_size(artifact)
    return ParquetRows(store, artifact, needed=needed)


def _check_size(artifact: Artifact) -> None:
    if artifact.byte_count > MOST_BYTES:
        raise TooLarge(
            f"the table has {artifact.byte_count} bytes; at most {MOST_BYTES} are opened here: read the artifact"
            f" {artifact.sha256[:12]} from the store"
        )


def _before(other: OutcomeIndex, places: Rows) -> list[Before | None]:
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
