"""The programmatic teacher of a task family as a source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mendloop.axes.annotate import CLUSTER
from mendloop.core.records import Example
from mendloop.core.tasks import Conditions, Task
from mendloop.data_generator.ports import SourceGaveUp


class TaskTeacher:
    """Candidates that the task family makes itself."""

    def __init__(self, task: Task, *, task_name: str) -> None:
        self._task, self._name = task, f"teacher:{task_name}"

    @property
    def name(self) -> str:
        """teacher:TASK."""
        return self._name

    @property
    def is_curriculum(self) -> bool:
        """Task.teach yields in the order in which it would teach."""
        return True

    def candidates(self, conditions: Conditions, *, seed: int) -> Iterator[Example]:
        """What Task.teach yields. Raises SourceGaveUp where the family cannot teach these conditions.

        No family knows the nodes of the axis cluster: it is asked for the other conditions, and the funnel places.
        """
        known = [(axis, value) for axis, value in conditions if axis != CLUSTER]
        try:
            for example in self._task.teach(known, seed=seed):
                yield replace(example, source=self._name)
        except ValueError as error:
            raise SourceGaveUp(f"{self._name} cannot go on: {error}") from error
