"""Rows as Parquet artifacts: items, examples, preferences, outcomes. Needs pyarrow (every service extra brings it)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.core.errors import CorruptArtifact
from mendloop.core.records import Axes, Example, Item, Outcome, Preference

MEDIA_TYPE = "application/vnd.apache.parquet"
_AXES = pa.map_(pa.string(), pa.list_(pa.string()))
_TYPES = {
    "str": pa.string(),
    "int": pa.int64(),
    "int | None": pa.int64(),
    "float": pa.float64(),
    "tuple[float, ...]": pa.list_(pa.float64()),
    "Axes": _AXES,
}
_LAST_OF_FIRST_VERSION = "axes"
"""Columns after it were added later, each with a default: a table may end before any of them."""

Row = TypeVar("Row", Item, Example, Outcome, Preference)


def schema_of(kind: type[Item] | type[Example] | type[Outcome] | type[Preference]) -> pa.Schema:
    """The documented Parquet schema of a record: one column a field, in order."""
    columns = [(field.name, _TYPES.get(str(field.type), pa.string())) for field in fields(kind)]
    return pa.schema(columns, metadata={"mendloop.record": kind.__name__})


def _pairs(axes: Axes) -> list[tuple[str, list[str]]]:
    return [(axis, list(values)) for axis, values in axes.items()]


def put_rows(store: ArtifactStore, rows: Sequence[Row], *, kind: type[Row]) -> Artifact:
    """Store rows as Parquet."""
    return store.put(to_parquet(rows, kind=kind), media_type=MEDIA_TYPE)


def to_parquet(rows: Sequence[Row], *, kind: type[Row]) -> bytes:
    """Rows as the bytes of a Parquet file."""
    schema = schema_of(kind)
    names = [field.name for field in fields(kind)]
    data = [{name: getattr(row, name) for name in names} | {"axes": _pairs(row.axes)} for row in rows]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(data, schema=schema), buffer, compression="zstd")
    return buffer.getvalue()


def record_of(store: ArtifactStore, artifact: Artifact) -> str:
    """The record whose rows a Parquet artifact holds, e.g. Preference; empty where it does not say.

    Raises CorruptArtifact where it is no Parquet.
    """
    try:
        schema = pq.read_schema(pa.BufferReader(store.get(artifact)))
    except pa.ArrowException as error:
        raise CorruptArtifact(f"artifact {artifact.sha256[:12]} is not Parquet: {error}") from error
    record: bytes = (schema.metadata or {}).get(b"mendloop.record", b"")
    return record.decode()


def get_rows(store: ArtifactStore, artifact: Artifact, *, kind: type[Row]) -> list[Row]:
    """Rows of a Parquet artifact, with defaults for columns that an older writer did not know.

    Raises CorruptArtifact where it holds other rows.
    """
    try:
        # not pq.read_table: threads that its scanner leaves behind abort the process at exit, now and then, on a busy
        # machine ("terminate called without an active exception", apache/arrow#34314)
        table = pq.ParquetFile(pa.BufferReader(store.get(artifact))).read(use_threads=False)
    except pa.ArrowException as error:
        raise CorruptArtifact(f"artifact {artifact.sha256[:12]} is not Parquet: {error}") from error
    names = table.schema.names
    known = schema_of(kind).names
    if names != known[: len(names)] or _LAST_OF_FIRST_VERSION not in names:
        raise CorruptArtifact(f"artifact {artifact.sha256[:12]} holds {names}, not {kind.__name__} rows")
    try:
        return [kind(**_fields(row)) for row in table.to_pylist()]
    except (TypeError, ValueError) as error:
        raise CorruptArtifact(f"artifact {artifact.sha256[:12]} holds no good {kind.__name__}: {error}") from error


def _fields(row: dict[str, Any]) -> dict[str, Any]:
    lists = {name: tuple(value) for name, value in row.items() if isinstance(value, list)}
    return row | lists | {"axes": {axis: tuple(values) for axis, values in row["axes"]}}
