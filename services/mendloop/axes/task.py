"""A task family whose prompts also get the axes of the recipe's rules and of their form. Knows no suite by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from mendloop.axes.annotate import merged
from mendloop.axes.form import FormAxes
from mendloop.axes.rules import parse_rules
from mendloop.axes.subject import Annotator, Subject
from mendloop.core.records import Axes
from mendloop.core.tasks import Task


class AnnotatedTask:
    """Passes everything on to the task but `annotate`.

    A bare prompt has neither target nor document: axes of those are on items and examples, never on prompts.
    """

    def __init__(self, task: Task, annotators: Sequence[Annotator], *, axes: Sequence[str]) -> None:
        self._task = task
        self._annotators = annotators
        self._axes = axes

    def annotate(self, prompt: str) -> Axes:
        """The task's own axis values of a prompt, and those of the recipe."""
        return merged(self._task.annotate(prompt), Subject(prompt), self._annotators, axes=self._axes)

    def __getattr__(self, name: str) -> object:
        return getattr(self._task, name)


def with_axes(task: Task, *, rules: Sequence[Mapping[str, Any]], axes: Sequence[str]) -> Task:
    """The task with the wanted axes of the rules and of form; the task itself where none of them is wanted.

    Raises InvalidRecipe for a wrong rule.
    """
    annotators: list[Annotator] = [parse_rules(rules), FormAxes()]
    if not any(set(axes) & set(annotator.axes) for annotator in annotators):
        return task
    return cast(Task, AnnotatedTask(task, annotators, axes=axes))
