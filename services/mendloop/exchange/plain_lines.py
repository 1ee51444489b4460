"""A batch as JSONL, one row a line, for a spreadsheet, a script or an editor; reviewed in the same lines.

`verdict` is empty until somebody writes accept, reject or correct there; a correction stands in `correction`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from mendloop.core.errors import InvalidReview
from mendloop.exchange.batches import StoredBatch
from mendloop.exchange.card import card
from mendloop.exchange.provenance import Provenance
from mendloop.exchange.reading import mapping, text, text_of
from mendloop.exchange.review import Annotation
from mendloop.exchange.rows import Row

ROWS_FILE = "rows.jsonl"


def files(batch: StoredBatch, history: Provenance) -> dict[str, bytes]:
    """The lines and a card that says how to fill them."""
    how_to = (
        f"Each line of `{ROWS_FILE}` is a row. Write `accept`, `reject` or `correct` into `verdict`, the right "
        "completion of a corrected row into `correction`, and who you are into `annotator`. "
        "Leave `id` and `prompt` as they are. "
        f"Then: `mend import {ROWS_FILE} --format jsonl --for {batch.short}`.\n"
    )
    lines = "".join(json.dumps(_line(row), ensure_ascii=False) + "\n" for row in batch.rows)
    return {ROWS_FILE: lines.encode(), "README.md": card(batch, history, front_matter={}, how_to=how_to).encode()}


def read_annotations(path: Path) -> list[Annotation]:
    """What people wrote into the lines; two lines of one row are two annotators. Raises InvalidReview."""
    return list(_annotations(path))


def _annotations(path: Path) -> Iterator[Annotation]:
    for number, line in enumerate(text_of(path).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path.name}:{number}"
        try:
            values = mapping(json.loads(line), where=where)
        except ValueError as error:
            raise InvalidReview(f"{where} is not JSON: {error}") from error
        yield Annotation(
            row_id=text(values, "id", where=where, needed=True),
            prompt=text(values, "prompt", where=where),
            verdict=text(values, "verdict", where=where).strip().lower(),
            completion=text(values, "correction", where=where),
            annotator=text(values, "annotator", where=where).strip(),
            note=text(values, "note", where=where),
        )


def _line(row: Row) -> dict[str, object]:
    example = row.example
    return {
        "id": row.row_id,
        "prompt": example.prompt,
        "completion": example.completion,
        "source": example.source,
        "axes": {axis: list(values) for axis, values in example.axes.items()},
        "verdict": "",
        "correction": "",
        "annotator": "",
        "note": "",
    }
