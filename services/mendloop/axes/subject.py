"""What an axis is read from: the texts of an item or an example. Knows no axis."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from mendloop.core.records import Axes, Example, Item


@dataclass(frozen=True, slots=True)
class Subject:
    """Prompt, target ("" where none is known) and the fields of the source document."""

    prompt: str
    target: str = ""
    document: Mapping[str, object] = field(default_factory=dict)

    @staticmethod
    def of_item(item: Item) -> Subject:
        """The subject of an evaluation item."""
        document = json.loads(item.document) if item.document else {}
        return Subject(item.prompt, item.target, document if isinstance(document, dict) else {})

    @staticmethod
    def of_example(example: Example) -> Subject:
        """The subject of a training example."""
        return Subject(example.prompt, example.completion)


class Annotator(Protocol):
    """Reads axis values off a subject."""

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes that it may give values on."""

    def values(self, subject: Subject) -> Axes:
        """Values on some of its axes; an axis that it cannot tell is left out."""
