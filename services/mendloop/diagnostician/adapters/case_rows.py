"""Items and training examples from Parquet or JSONL files of any origin. Knows files and fields; knows no case.

What is wrong for a whole file raises InvalidResults; a training example that cannot be used is left out and counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from mendloop.core.errors import InvalidResults
from mendloop.core.records import Axes, Example, Item, Outcome

SUFFIXES = (".parquet", ".jsonl")


class Corpus(NamedTuple):
    """Training examples, and how many rows were left out for which reason."""

    examples: tuple[Example, ...]
    dropped: Mapping[str, int]


def read_corpus(path: Path, *, annotate: Callable[[str], Axes]) -> Corpus:
    """Rows with the fields prompt and completion; source and axes may be given. Raises InvalidResults."""
    examples, dropped, first = [], Counter[str](), dict[str, str]()
    for place, row in _rows(path):
        reason = _fault(row)
        if reason:
            dropped[reason] += 1
            first.setdefault(reason, f"{place}: {_short(row.get('prompt'))}")
            continue
        axes = _axes(row.get("axes"), place=place) or annotate(row["prompt"])
        examples.append(Example(row["prompt"], row["completion"], row.get("source") or path.name, axes=axes))
    if not examples:
        why = ", ".join(f"{count} rows with {reason}" for reason, count in dropped.items()) or "it is empty"
        raise InvalidResults(f"the corpus {path} holds no example ({why}); each row needs a prompt and a completion")
    return Corpus(tuple(examples), {f"{reason} (first at {first[reason]})": n for reason, n in dropped.items()})


def read_items(path: Path) -> dict[str, Item]:
    """Items by id, from rows with the fields of Item. Raises InvalidResults where a row is none."""
    items = {}
    for place, row in _rows(path):
        try:
            items[str(row["item_id"])] = Item(
                item_id=str(row["item_id"]),
                prompt=row["prompt"],
                target=row["target"],
                split=row.get("split") or "search",
                document=row.get("document") or "",
                axes=_axes(row.get("axes"), place=place),
            )
        except KeyError as error:
            raise InvalidResults(f"{place}: an item has no field {error}; it has {', '.join(row)}") from error
        except ValueError as error:
            raise InvalidResults(f"{place}: {error}") from error
    return items


def items_of(outcomes: Sequence[Outcome]) -> dict[str, Item]:
    """The items that outcomes tell of."""
    return {row.item_id: Item(row.item_id, row.prompt, row.target, row.split, axes=row.axes) for row in outcomes}


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, fields) of each row."""
    if not path.is_file():
        raise InvalidResults(f"there is no file {path}; correct the path")
    if path.suffix == ".parquet":
        yield from ((f"{path.name}, row {number}", row) for number, row in enumerate(_parquet(path), start=1))
    elif path.suffix == ".jsonl":
        yield from _lines(path)
    else:
        raise InvalidResults(f"{path} ends in {path.suffix or 'nothing'}; rows are read from {', '.join(SUFFIXES)}")


def _parquet(path: Path) -> list[dict[str, Any]]:
    try:
        # without threads: see artifacts.tables
        rows: list[dict[str, Any]] = pq.ParquetFile(path).read(use_threads=False).to_pylist()
    except pa.ArrowException as error:
        raise InvalidResults(f"{path} is not Parquet: {error}; write it again") from error
    return rows


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            place = f"{path.name}:{number}"
            try:
                row = json.loads(line)
            except ValueError as error:  # bad JSON and bad UTF-8
                raise InvalidResults(f"{place}: not a JSON object: {error}") from error
            if not isinstance(row, dict):
                raise InvalidResults(f"{place}: holds {_short(row)}; each line is a JSON object")
            yield place, row


def _fault(row: Mapping[str, Any]) -> str:
    """Why a row is no training example; empty where it is one."""
    for name in ("prompt", "completion"):
        value = row.get(name)
        if value is None:
            return f"no field {name!r}"
        if not isinstance(value, str):
            return f"a {name} that is no text"
        if not value.strip():
            return f"an empty {name}"
    return ""


def _axes(given: object, *, place: str) -> dict[str, tuple[str, ...]]:
    """Axes as Parquet (pairs) or JSON (an object) has them; a value may be one text or several."""
    if not given:
        return {}
    if not isinstance(given, dict | list):
        raise InvalidResults(f"{place}: axes are {_short(given)}; they are an object of axis: value or list of values")
    pairs = given.items() if isinstance(given, dict) else given
    return {str(axis): tuple(map(str, values if isinstance(values, list) else [values])) for axis, values in pairs}


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
