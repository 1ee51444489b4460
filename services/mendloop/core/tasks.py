"""The port through which a task family joins the loop. Families register in the entry-point group mendloop.tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Protocol, cast

from mendloop.core.errors import InvalidRecipe
from mendloop.core.records import Axes, Example, Item, Score

Options = Mapping[str, object]
Conditions = Sequence[tuple[str, str]]
"""A slice's definition: (axis, value) pairs that all hold."""


class Task(Protocol):
    """A task family: its data, its axes, its scorers, its verifier and its programmatic teacher.

    The entry point is a factory that gets the recipe's suite.options and raises InvalidRecipe where they are wrong.
    """

    stop_strings: tuple[str, ...]
    """Strings that end a generation beside EOS; the output is cut before them."""

    def corpus(self, options: Options) -> list[Example]:
        """The training corpus that the recipe's corpus options describe."""

    def pool(self, options: Options) -> list[Example]:
        """Examples outside the corpus from which data may be retrieved; empty where the family has none."""

    def items(self, *, counts: Mapping[str, int], seed: int) -> list[Item]:
        """Disjoint evaluation items for the splits search, confirm and sealed, as many as counts says."""

    def annotate(self, prompt: str) -> Axes:
        """Axis values of any prompt of the family."""

    def score(self, item: Item, output: str) -> Score:
        """The suite's own scorer."""

    def rescore(self, item: Item, output: str) -> Score:
        """The second, lenient scorer: a right answer in any form gets full score."""

    def verify(self, prompt: str, answer: str) -> bool:
        """Whether the answer to any prompt is right, by program; False where no program can tell."""

    def teach(self, conditions: Conditions, *, seed: int) -> Iterator[Example]:
        """Endless or finite candidates of a slice, in the order in which they teach best; the seed fixes the rest.

        Each is verified by the caller.
        """


def find_task(name: str, options: Options) -> Task:
    """The registered task family of this name. Raises InvalidRecipe for an unknown one or for wrong options."""
    known = {point.name: point for point in entry_points(group="mendloop.tasks")}
    if name not in known:
        raise InvalidRecipe(f"unknown task {name!r}; installed are {', '.join(sorted(known)) or 'none'}")
    return cast(Callable[[Options], Task], known[name].load())(options)


def matches(axes: Axes, conditions: Conditions) -> bool:
    """Whether axis values satisfy every condition of a slice; no condition matches everything."""
    return all(value in axes.get(axis, ()) for axis, value in conditions)
