"""Puts axis values on items and examples. Knows annotators; knows neither outcomes nor models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from mendloop.axes.subject import Annotator, Subject
from mendloop.core.records import Axes, Example, Item

CLUSTER = "cluster"
"""The axis of the hierarchy from embeddings, which the evaluator builds over a suite's items."""
Row = TypeVar("Row", Item, Example)


def annotated(rows: Iterable[Row], annotators: Sequence[Annotator], *, axes: Sequence[str] | None = None) -> list[Row]:
    """The rows with the values of all annotators on the wanted axes (None: all); what a row has already stays.

    The task's own values come first, then those of the annotators in their order.
    """
    return [replace(row, axes=merged(row.axes, _subject(row), annotators, axes=axes)) for row in rows]


def merged(own: Axes, subject: Subject, annotators: Sequence[Annotator], *, axes: Sequence[str] | None = None) -> Axes:
    """Axis values of one subject."""
    found = dict(own)
    for annotator in annotators:
        if axes is not None and not set(axes) & set(annotator.axes):
            continue
        for axis, values in annotator.values(subject).items():
            if (axes is None or axis in axes) and axis not in found:
                found[axis] = values
    return found


def _subject(row: Item | Example) -> Subject:
    return Subject.of_item(row) if isinstance(row, Item) else Subject.of_example(row)
