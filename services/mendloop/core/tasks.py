"""The port through which a task family joins the loop. Families register in the entry-point group mendloop.tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Protocol, cast

from mendloop.core.errors import InvalidRecipe
from mendloop.core.records import Axes, Example, Item

Options = Mapping[str, object]
Conditions = Sequence[tuple[str, str]]
"""A slice's definition: (axis, value) pairs that all hold."""


class Task(Protocol):
    """A task family: its corpus, its evaluation items, its axes, its verifier and its programmatic teacher."""

    def corpus(self, options: Options) -> list[Example]:
        """The training corpus that the recipe's options describe."""

    def items(self, options: Options, *, counts: Mapping[str, int], seed: int) -> list[Item]:
        """Disjoint evaluation items for the splits search, confirm and sealed, as many as counts says."""

    def annotate(self, prompt: str) -> Axes:
        """Axis values of any prompt of the family."""

    def verify(self, prompt: str, answer: str) -> bool:
        """Whether the answer is right, by program."""

    def normalize(self, answer: str) -> str:
        """An answer in the form in which the second, lenient scorer compares."""

    def teach(self, conditions: Conditions, *, seed: int) -> Iterator[Example]:
        """Endless or finite candidates of a slice, shuffled by the seed; each is verified by the caller."""


def find_task(name: str) -> Task:
    """The registered task family of this name. Raises InvalidRecipe for an unknown one."""
    known = {point.name: point for point in entry_points(group="mendloop.tasks")}
    if name not in known:
        raise InvalidRecipe(f"unknown task {name!r}; installed are {', '.join(sorted(known)) or 'none'}")
    return cast(Task, known[name].load()())


def matches(axes: Axes, conditions: Conditions) -> bool:
    """Whether axis values satisfy every condition of a slice; no condition matches everything."""
    return all(value in axes.get(axis, ()) for axis, value in conditions)
