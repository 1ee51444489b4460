"""Which slices a prompt outside the evaluation can be placed in, and places it on the axis `cluster`.

Knows axes and a stored hierarchy; knows no embedder: that is behind a port.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.axes.annotate import CLUSTER
from mendloop.axes.hierarchy import NAMESPACE, Hierarchy, hierarchy_name
from mendloop.core.errors import Permanent
from mendloop.core.recipe import SuiteSettings
from mendloop.core.records import Axes, Example
from mendloop.core.tasks import Conditions, Task

log = logging.getLogger(__name__)
OF_TARGETS = "target_"
REMEMBERED = 100_000
"""Prompts whose nodes are remembered: a candidate is looked at more than once."""


class Embeds(Protocol):
    """Turns texts into vectors as those of the hierarchy were made."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(texts, dimensions), rows of length 1."""


OpenEmbedder = Callable[[str, bytes], Embeds]
"""From the hierarchy's embedder name and state. Raises Permanent where this machine does not have it."""


class Places:
    """The nodes of any prompt."""

    def __init__(self, hierarchy: Hierarchy, embedder: Embeds) -> None:
        self._hierarchy, self._embedder = hierarchy, embedder
        self._known: dict[str, tuple[str, ...]] = {}

    def of(self, prompts: Sequence[str]) -> list[tuple[str, ...]]:
        """The values of each prompt on the axis cluster, from wide to narrow; new ones are embedded in one call."""
        new = list(dict.fromkeys(prompt for prompt in prompts if prompt not in self._known))
        if new:
            placed = dict(zip(new, self._hierarchy.place(self._embedder.embed(new)), strict=True))
            if len(self._known) + len(placed) > REMEMBERED:
                self._known.clear()
            self._known.update(placed)
            return [placed[p] if p in placed else self.of([p])[0] for p in prompts]
        return [self._known[prompt] for prompt in prompts]

    def placed(self, examples: Sequence[Example]) -> list[Example]:
        """The examples with their nodes."""
        found = self.of([example.prompt for example in examples])
        return [replace(row, axes={**row.axes, CLUSTER: nodes}) for row, nodes in zip(examples, found, strict=True)]


class PlacedTask:
    """Passes everything on to the task, and adds the nodes of a prompt to what `annotate` says."""

    def __init__(self, task: Task, places: Places) -> None:
        self._task = task
        self.places = places

    def annotate(self, prompt: str) -> Axes:
        """The task's axis values of a prompt, and its nodes."""
        return {**self._task.annotate(prompt), CLUSTER: self.places.of([prompt])[0]}

    def __getattr__(self, name: str) -> object:
        return getattr(self._task, name)


def places_of(
    items_sha: str, suite: SuiteSettings, *, store: ArtifactStore, open_embedder: OpenEmbedder
) -> Places | None:
    """How prompts are placed on the axis cluster of a suite; None, with the reason logged, where they cannot be."""
    if CLUSTER not in suite.axes:
        return None
    raw = store.get_doc(NAMESPACE, hierarchy_name(items_sha, suite))
    if raw is None:
        log.warning("clusters cannot be placed", extra={"reason": "no hierarchy of the suite's items is stored"})
        return None
    hierarchy = Hierarchy.from_bytes(store.get(Artifact(**json.loads(raw))))
    try:
        return Places(hierarchy, open_embedder(hierarchy.embedder, hierarchy.state))
    except Permanent as error:
        log.warning("clusters cannot be placed", extra={"reason": str(error)})
        return None


def with_places(task: Task, places: Places | None) -> Task:
    """The task whose prompts also get their nodes, where they can be placed."""
    return task if places is None else cast(Task, PlacedTask(task, places))


def unplaceable(conditions: Conditions, suite: SuiteSettings, *, places: Places | None) -> str:
    """Why no prompt outside the evaluation can be placed in a slice, in words; empty where every axis can be read."""
    reasons = [(axis, _reason(axis, suite, places=places)) for axis in dict.fromkeys(axis for axis, _ in conditions)]
    return "; ".join(f"axis {axis!r} {reason}" for axis, reason in reasons if reason)


def _reason(axis: str, suite: SuiteSettings, *, places: Places | None) -> str:
    rules = [rule for rule in suite.axis_rules if rule.get("axis") == axis]
    if rules and all(rule.get("field", "prompt") != "prompt" for rule in rules):
        return "is read from an item's answer or document, which a bare prompt does not have"
    if axis.startswith(OF_TARGETS) and not rules:
        return "is read from the right answer, which a bare prompt does not have"
    if suite.axes_reader is not None and any(one.axis == axis for one in suite.axes_reader.axes):
        return "is read by a language model, which is asked about evaluation items only"
    if axis == CLUSTER and places is None:
        return "needs the stored hierarchy of the items and its embedder, and this service lacks one of them"
    return ""
