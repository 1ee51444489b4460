"""The way in: a file or a folder of results in any known format becomes outcomes. Knows which reader reads what."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from mendloop.core.errors import InvalidResults
from mendloop.suites.importers import inspect_logs, lm_eval_samples, outcome_parquet, plain_jsonl
from mendloop.suites.importers.collecting import Collector, Imported, OnBytes, Options

Format = Literal["auto", "lm-eval", "inspect", "jsonl", "parquet"]
FORMATS: tuple[Format, ...] = ("auto", "lm-eval", "inspect", "jsonl", "parquet")
SUFFIXES = (".parquet", ".eval", ".json", ".jsonl")

Reader = Callable[..., None]
_READERS: dict[str, Reader] = {
    lm_eval_samples.FORMAT: lm_eval_samples.read,
    inspect_logs.FORMAT: inspect_logs.read,
    plain_jsonl.FORMAT: plain_jsonl.read,
    outcome_parquet.FORMAT: outcome_parquet.read,
}


def read_results(
    path: Path,
    *,
    format_name: Format = "auto",
    options: Options | None = None,
    on_bytes: OnBytes = lambda count: None,
) -> Imported:
    """Outcomes of one evaluation: a file, or a folder whose files together are one evaluation.

    on_bytes is told how many bytes were read, `size_of(path)` in all. Raises InvalidResults.
    """
    into = Collector(options or Options())
    files = _files(path)
    for file in files:
        found = format_name if format_name != "auto" else format_of(file)
        if found is None and len(files) > 1:
            into.note(f"file that holds no results left out: {file.name}")
            on_bytes(file.stat().st_size)
            continue
        if found is None:
            raise InvalidResults(f"{file} is in no known format; name one with --format: {', '.join(FORMATS[1:])}")
        _READERS[found](file, into, on_bytes=on_bytes)
    return into.finish(path)


def format_of(path: Path) -> Format | None:
    """The format of a file by its beginning, its name only where that is a format's own; None for others."""
    with path.open("rb") as file:
        head = file.read(4)
        if head == outcome_parquet.MAGIC:
            return "parquet"
        if path.suffix == ".eval" and head[:2] == b"PK":
            return "inspect"
        if path.suffix == ".json":
            return "inspect" if inspect_logs.is_log(path) else None
        file.seek(0)
        first = next((line for line in file if line.strip()), b"")
    try:
        row = json.loads(first) if first else {}
    except ValueError:
        return "jsonl" if path.suffix == ".jsonl" else None  # its reader names the line
    if isinstance(row, dict) and row.keys() >= lm_eval_samples.MARKS:
        return "lm-eval"
    return "jsonl" if path.suffix == ".jsonl" or (isinstance(row, dict) and "id" in row) else None


def size_of(path: Path) -> int:
    """Bytes that reading will go through."""
    return sum(file.stat().st_size for file in _files(path))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InvalidResults(f"there is no file or folder {path}; correct the path")
    files = sorted(_with_results(path.rglob("*")))
    if not files:
        raise InvalidResults(f"{path} holds no file of results; they end in {', '.join(SUFFIXES)}")
    return files


def _with_results(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if path.suffix in SUFFIXES and path.is_file()]
