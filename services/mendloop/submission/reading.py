"""Puts the axes of a recipe's language model on the items, once its agreement with people is measured.

What was read is kept, so that the same suite keeps its values whatever the model says another day.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mendloop.artifacts.store import ArtifactStore
from mendloop.axes.reader import AxisQuestion, Labelled, Reader, ReaderAxis, Reading, measure_axis, read_axis
from mendloop.axes.subject import Subject
from mendloop.core.errors import InvalidRecipe, MendloopError
from mendloop.core.events import stable_hash
from mendloop.core.recipe import AxesReader, Recipe
from mendloop.core.records import Item
from mendloop.models.chat import ChatEndpoint

log = logging.getLogger(__name__)
READ, MEASURED, OF_ITEMS = "axes-read", "axes-reader", "axes-reader-of-items"
"""Namespaces: what was read off a suite's items, how far it can be believed, and the same by the items' artifact."""
ATTEMPTS = 4
OpenReader = Callable[[AxesReader], Reader]


@dataclass(frozen=True, slots=True)
class AxisRead:
    """How an axis was read: agreement with people and with itself, and what could not be read."""

    axis: str
    kappa: float
    low: float
    high: float
    labelled_count: int
    repeat_kappa: float
    floor: float
    item_count: int
    unreadable_count: int
    labelled_unreadable_count: int

    @property
    def words(self) -> str:
        """One line for a person."""
        return (
            f"axis {self.axis} was read by a model: kappa {self.kappa:.2f} (95 % interval {self.low:.2f} to"
            f" {self.high:.2f}) on {self.labelled_count} labelled items, floor {self.floor:.2f};"
            f" {self.unreadable_count} of {self.item_count} items unreadable"
        )


def endpoint_reader(settings: AxesReader) -> Reader:
    """The reader that a recipe names. Raises InvalidRecipe where its key cannot be read."""
    try:
        key = settings.api_key_file.read_text().strip() if settings.api_key_file else ""
    except OSError as error:
        raise InvalidRecipe(f"api_key_file {settings.api_key_file} cannot be read: {error.strerror}") from error
    return ChatEndpoint(
        settings.url,
        settings.model,
        role="axis reader",
        api_key=key,
        max_tokens=settings.max_tokens,
        timeout_s=settings.timeout_s,
        concurrency=settings.concurrency,
        attempts=ATTEMPTS,
    )


def with_read_axes(
    items: Sequence[Item], recipe: Recipe, *, store: ArtifactStore, open_reader: OpenReader = endpoint_reader
) -> list[Item]:
    """The items with the axes of suite.axes_reader; those items themselves where the recipe has none.

    Raises InvalidRecipe for an axis whose agreement is too low, for bad labels, and where the endpoint fails.
    """
    settings = recipe.suite.axes_reader
    if settings is None or not items:
        return list(items)
    key = _key(settings, items)
    kept = store.get_doc(READ, key)
    if kept is None:
        try:
            found = _read(items, settings, reader=open_reader(settings))
        except (MendloopError, ValueError) as error:
            raise InvalidRecipe(f"suite.axes_reader: {error}") from error
        report, values = found
        store.put_doc(MEASURED, key, json.dumps([asdict(row) for row in report]).encode())
        store.put_doc(READ, key, json.dumps(values).encode())
        for row in report:
            log.info("axis read by a model", extra=asdict(row))
    else:
        values = json.loads(kept)
    read = [{axis: (value,) for axis, value in row.items()} for row in values]
    return [replace(item, axes={**item.axes, **row}) for item, row in zip(items, read, strict=True)]


def axes_read(recipe: Recipe, items: Sequence[Item], *, store: ArtifactStore) -> list[AxisRead]:
    """How the axes of these items were read; empty where no model read any."""
    settings = recipe.suite.axes_reader
    raw = store.get_doc(MEASURED, _key(settings, items)) if settings and items else None
    return [AxisRead(**row) for row in json.loads(raw)] if raw else []


def note_axes_read(recipe: Recipe, items: Sequence[Item], *, items_sha: str, store: ArtifactStore) -> None:
    """Keep how the axes of these items were read under the artifact that holds them, where a report looks for it."""
    found = axes_read(recipe, items, store=store)
    if found:
        document = [{**asdict(row), "words": row.words} for row in found]
        store.put_doc(OF_ITEMS, items_sha, json.dumps(document).encode())


def _key(settings: AxesReader, items: Sequence[Item]) -> str:
    """Depends on what is asked of whom about what, and on the labels; not on keys and patience."""
    asked = settings.model_dump(mode="json", include={"url", "model", "axes", "floor"})
    subjects = [text for item in items for text in (item.item_id, item.prompt, item.target)]
    labels = settings.labelled.read_text() if settings.labelled.is_file() else ""
    return stable_hash("axes-read", json.dumps(asked, sort_keys=True), labels, *subjects)[:32]


def _read(
    items: Sequence[Item], settings: AxesReader, *, reader: Reader
) -> tuple[list[AxisRead], list[dict[str, str]]]:
    labelled = _labelled(settings.labelled)
    subjects = [Subject.of_item(item) for item in items]
    report: list[AxisRead] = []
    values: list[dict[str, str]] = [{} for _ in items]
    for chosen in settings.axes:
        question = AxisQuestion(chosen.axis, chosen.question, tuple(chosen.values.items()))
        known = [Labelled(subject, axes[chosen.axis]) for subject, axes in labelled if chosen.axis in axes]
        axis = measure_axis(question, reader=reader, labelled=known, floor=settings.floor)
        reading = read_axis(axis, subjects, reader=reader)
        for row, value in zip(values, reading.values, strict=True):
            if value is not None:
                row[chosen.axis] = value
        report.append(_row(axis, reading, item_count=len(items)))
    return report, values


def _row(axis: ReaderAxis, reading: Reading, *, item_count: int) -> AxisRead:
    return AxisRead(
        axis=axis.question.axis,
        kappa=axis.agreement.value,
        low=axis.agreement.low,
        high=axis.agreement.high,
        labelled_count=axis.agreement.n,
        repeat_kappa=axis.repeat.value,
        floor=axis.floor,
        item_count=item_count,
        unreadable_count=reading.unreadable_count,
        labelled_unreadable_count=axis.unreadable_count,
    )


def _labelled(path: Path) -> list[tuple[Subject, dict[str, str]]]:
    """Subjects with what people said of them. Raises InvalidRecipe with the line at fault."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise InvalidRecipe(f"labelled {path} cannot be read: {error.strerror}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            axes = {str(axis): str(value) for axis, value in row["axes"].items()}
            found.append((Subject(str(row["prompt"]), str(row.get("target", ""))), axes))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidRecipe(
                f"{path.name}:{number}: no labelled item ({error!r}); it has prompt, target (optional) and axes"
            ) from error
    return found
