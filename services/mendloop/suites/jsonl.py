"""Training examples from JSONL files, with errors that name file, line and field. Knows no suite."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from mendloop.core.errors import InvalidRecipe
from mendloop.core.records import Axes, Example
from mendloop.core.tasks import Options


class JsonlOptions(BaseModel):
    """Where examples lie and which fields they have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path
    prompt: str = "prompt"
    completion: str = "completion"


def read_examples(options: Options, *, annotate: Callable[[str], Axes]) -> list[Example]:
    """One example a line. Raises InvalidRecipe where the file or a line cannot be read."""
    try:
        wanted = JsonlOptions.model_validate(dict(options))
    except ValidationError as error:
        raise InvalidRecipe(f"options of a JSONL corpus are path, prompt, completion: {error}") from error
    try:
        lines = wanted.path.read_text().splitlines()
    except OSError as error:
        raise InvalidRecipe(f"cannot read {wanted.path}: {error.strerror}; correct path") from error
    return [
        _example(line, place=f"{wanted.path}:{number}", options=wanted, annotate=annotate)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]


def _example(line: str, *, place: str, options: JsonlOptions, annotate: Callable[[str], Axes]) -> Example:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InvalidRecipe(f"{place}: not JSON: {error.msg}") from error
    values = [row.get(name) if isinstance(row, dict) else None for name in (options.prompt, options.completion)]
    for name, value in zip((options.prompt, options.completion), values, strict=True):
        if not isinstance(value, str) or not value:
            raise InvalidRecipe(f"{place}: field {name!r} is {value!r}; it must be a text that is not empty")
    prompt, completion = map(str, values)
    return Example(prompt, completion, source=options.path.name, axes=annotate(prompt))
