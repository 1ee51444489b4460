"""Records as rows and back, by field name. Knows dataclasses and JSON values; knows no record in particular."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, fields
from enum import StrEnum
from typing import Any, TypeVar, cast, get_type_hints

from mendloop.bus.runtime import Emit
from mendloop.controller.domain.records import Cost, Gate, GateAnswer
from mendloop.core.contracts import TYPE_PREFIX, decode

Record = TypeVar("Record")


def row_of(record: Any) -> dict[str, Any]:
    """A record's columns; a gate's answer lies flat beside its place."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    if isinstance(record, Gate):
        values = {**asdict(values.pop("answer")), **values}
    return {name: _plain(value) for name, value in values.items()}


def record_of(kind: type[Record], row: Mapping[str, Any]) -> Record:
    """The record in a row."""
    if kind is Gate:
        place = {name: row[name] for name in ("round", "arm", "position")}
        return cast(Record, Gate(**place, answer=record_of(GateAnswer, row)))
    hints = get_type_hints(kind)
    return kind(**{name: _typed(hint, row[name]) for name, hint in hints.items()})


def outputs_json(emits: list[Emit]) -> list[dict[str, str]]:
    """Outputs as JSON values."""
    return [
        {
            "type": TYPE_PREFIX + emit.message.DESCRIPTOR.name,
            "value": base64.b64encode(emit.message.SerializeToString(deterministic=True)).decode(),
            "key": emit.key,
            "identity": emit.identity,
            "subject": emit.subject,
        }
        for emit in emits
    ]


def outputs_of(rows: list[dict[str, str]]) -> list[Emit]:
    """The outputs of JSON values."""
    return [
        Emit(decode(row["type"], base64.b64decode(row["value"])), row["key"], row["identity"], row["subject"])
        for row in rows
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value


def _typed(hint: Any, value: Any) -> Any:
    if hint is Cost:
        return Cost(*value)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint(value)
    return _tuples(value)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
