"""Plain JSONL: id, prompt, output, target and optionally score, axes, group, repeat, a row each line."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mendloop.core.records import Axes, Outcome
from mendloop.suites.importers.answers import score_answer
from mendloop.suites.importers.collecting import (
    UNKNOWN_COUNT,
    BadRow,
    Collector,
    OnBytes,
    as_values,
    checked_score,
    checked_target,
    json_lines,
)

FORMAT = "jsonl"
FIELDS = ("id", "prompt", "output", "target", "score", "axes", "group", "repeat")


def read(path: Path, into: Collector, *, on_bytes: OnBytes) -> None:
    """Read one file. Unknown fields are counted; rows without a score are scored by exact match and counted."""
    into.start(FORMAT)
    for place, parse in json_lines(path, on_bytes=on_bytes):
        into.read(place, partial(_outcome, parse, into))


def _outcome(parse: Callable[[], dict[str, Any]], into: Collector) -> Outcome:
    row = parse()
    for name in row.keys() - set(FIELDS):
        into.note(f"unknown field {name!r}")
    item_id, target = _id(row), checked_target(row.get("target"))
    prompt, output = _text(row, "prompt"), _text(row, "output")
    if row.get("score") is not None:
        score, extraction = checked_score(row["score"], name="score"), "given"
    else:
        into.note("scored here by exact match")
        found = score_answer(output, target, after=into.options.answer_after)
        score, extraction = found.value, found.extraction
    return Outcome(
        item_id=item_id,
        split="search",
        prompt=prompt,
        output=output,
        target=target,
        score=score,
        prompt_token_count=UNKNOWN_COUNT,
        output_token_count=UNKNOWN_COUNT,
        stop_reason="unknown",
        extraction=extraction,
        target_logprob=math.nan,
        repeat_index=_repeat(row),
        axes=_axes(row),
    )


def _id(row: Mapping[str, Any]) -> str:
    value = row.get("id")
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise BadRow("item without id", f"field 'id' is {value!r}; it must be a text or a whole number")
    return str(value)


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise BadRow(f"item without {name}", f"field {name!r} is {value!r}; it must be a text (it may be empty)")
    return value


def _repeat(row: Mapping[str, Any]) -> int:
    value = row.get("repeat", 0)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadRow("bad repeat", f"field 'repeat' is {value!r}; it counts from 0")
    return value


def _axes(row: Mapping[str, Any]) -> Axes:
    given = row.get("axes") or {}
    if not isinstance(given, dict):
        raise BadRow("bad axes", f"field 'axes' is {given!r}; it is an object of axis: value or list of values")
    axes = {str(axis): as_values(values) for axis, values in given.items()}
    return axes if row.get("group") is None else {**axes, "group": as_values(row["group"])}
