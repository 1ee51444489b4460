"""A batch as a Hugging Face data set: Parquet and a card, which `datasets.load_dataset(FOLDER)` opens offline.

Columns prompt and completion are what TRL's SFTTrainer reads; prompt, chosen and rejected of preferences what its
DPOTrainer reads. Needs pyarrow.
"""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq

from mendloop.core.records import Axes
from mendloop.exchange.batches import StoredBatch
from mendloop.exchange.card import card
from mendloop.exchange.provenance import LICENSE, Provenance
from mendloop.exchange.rows import PairRow, Row

DATA_FILE = "data/train-00000-of-00001.parquet"
_AXES = pa.list_(pa.struct([("axis", pa.string()), ("values", pa.list_(pa.string()))]))
"""A list of structs: the reader has no type for maps."""


def _schema(*texts: str) -> pa.Schema:
    return pa.schema([*((name, pa.string()) for name in ("id", *texts, "source")), ("axes", _AXES)])


SCHEMA, PAIR_SCHEMA = _schema("prompt", "completion"), _schema("prompt", "chosen", "rejected")
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def files(batch: StoredBatch, history: Provenance) -> dict[str, bytes]:
    """The Parquet file and the card."""
    how_to = (
        "```python\n"
        "from datasets import load_dataset\n\n"
        'rows = load_dataset("FOLDER", split="train")  # the folder that holds this file\n'
        "```\n"
    )
    text = card(batch, history, front_matter=_front_matter(batch), how_to=how_to)
    return {DATA_FILE: _parquet(batch), "README.md": text.encode()}


def _front_matter(batch: StoredBatch) -> dict[str, object]:
    size = next((name for most, name in _SIZES if batch.row_count < most), "n>1M")
    return {
        "license": LICENSE,
        "pretty_name": f"Mendloop batch {batch.short}",
        "size_categories": [size],
        "task_categories": ["text-generation"],
        "tags": ["mendloop"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": DATA_FILE}]}],
    }


def _parquet(batch: StoredBatch) -> bytes:
    columns = [_columns(row) for row in batch.rows] or [_pair_columns(row) for row in batch.pairs]
    table = pa.Table.from_pylist(columns, schema=PAIR_SCHEMA if batch.pairs else SCHEMA)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _columns(row: Row) -> dict[str, object]:
    example = row.example
    return {
        "id": row.row_id,
        "prompt": example.prompt,
        "completion": example.completion,
        "source": example.source,
        "axes": _structs(example.axes),
    }


def _pair_columns(row: PairRow) -> dict[str, object]:
    pair = row.pair
    texts = {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
    return {"id": row.row_id, **texts, "source": pair.source, "axes": _structs(pair.axes)}


def _structs(axes: Axes) -> list[dict[str, object]]:
    return [{"axis": axis, "values": list(values)} for axis, values in axes.items()]
