"""Reads what a labelling tool wrote: JSON whose faults are told with the file, the entry and what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mendloop.core.errors import InvalidReview


def json_list(path: Path, *, what: str) -> list[Any]:
    """A JSON file that holds a list. Raises InvalidReview otherwise, naming what was expected."""
    try:
        found = json.loads(text_of(path))
    except ValueError as error:
        raise InvalidReview(f"{path} is not JSON: {error}; it must be {what}") from error
    if not isinstance(found, list):
        raise InvalidReview(f"{path} holds one {type(found).__name__}, not a list; it must be {what}")
    return found


def entries(path: Path, *, what: str, noun: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The objects of a JSON list, each with its place for messages. Raises InvalidReview where one is none."""
    for index, entry in enumerate(json_list(path, what=what)):
        where = f"{path.name}, {noun} {index}"
        yield mapping(entry, where=where), where


def text_of(path: Path) -> str:
    """The text of a file. Raises InvalidReview where it cannot be read as UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidReview(f"{path} cannot be read: {error}") from error


def mapping(value: object, *, where: str) -> Mapping[str, Any]:
    """The value as a JSON object. Raises InvalidReview with the place where it is none."""
    if not isinstance(value, dict):
        raise InvalidReview(f"{where} is {type(value).__name__}, not an object")
    return value


def text(values: Mapping[str, Any], name: str, *, where: str, needed: bool = False) -> str:
    """A text field; empty where it is missing or null and not needed. Raises InvalidReview otherwise."""
    value = values.get(name)
    if value is None and not needed:
        return ""
    if not isinstance(value, str) or (needed and not value):
        raise InvalidReview(f"{where}: {name} is {value!r}; it must be a text" + (" that is not empty" * needed))
    return value
