"""The formats of an export by name: which files each one makes of a batch, and which can be read back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mendloop.core.errors import Permanent
from mendloop.exchange import argilla_records, hub, label_studio, plain_lines
from mendloop.exchange.batches import StoredBatch
from mendloop.exchange.folder import MARKER
from mendloop.exchange.provenance import Provenance
from mendloop.exchange.review import Annotation

Files = dict[str, bytes]

MAKERS: Mapping[str, Callable[[StoredBatch, Provenance], Files]] = {
    "hf": hub.files,
    "label-studio": label_studio.files,
    "argilla": argilla_records.files,
    "jsonl": plain_lines.files,
}
READERS: Mapping[str, Callable[[Path], Sequence[Annotation]]] = {
    "label-studio": label_studio.read_annotations,
    "argilla": argilla_records.read_annotations,
    "jsonl": plain_lines.read_annotations,
}


def exported(batch: StoredBatch, history: Provenance, *, format_name: str) -> Files:
    """The files of an export, lineage.json included. Raises KeyError for an unknown format.

    Raises Permanent for preferences in a format that people review: what they say of pairs cannot be read back.
    """
    if batch.pairs and format_name in READERS:
        raise Permanent(
            f"batch {batch.short} holds {len(batch.pairs)} preferences, and a review of pairs cannot be read back: "
            "export it with --format hf, and answer the run with mend approve or mend refuse"
        )
    lineage = json.dumps(history.document, indent=1, ensure_ascii=False, sort_keys=True).encode()
    return {**MAKERS[format_name](batch, history), MARKER: lineage}
