"""Right answers as token ids, and where an output leaves them. Knows tasks and encoded texts; knows no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mendloop.core.records import Item
from mendloop.core.task_hooks import Stepwise
from mendloop.core.tasks import Task
from mendloop.models.encoding import Encoded, Ids
from mendloop.models.inspection import answer_ids

Place = Literal["first", "final"]
"""Which token of the answer: its first, or its last before the EOS."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An item's prompt, its right answer and what was said, as ids; the latter two without the EOS."""

    prompt: Ids
    right: Ids
    said: Ids

    def label(self, place: Place) -> int:
        """The right token at a place."""
        return self.right[0 if place == "first" else -1]

    def is_wrong_at(self, place: Place) -> bool:
        """Whether the output has another token, or none, where the right answer has this one."""
        at = 0 if place == "first" else len(self.right) - 1
        return self.said[at : at + 1] != self.right[at : at + 1]

    @property
    def first_wrong(self) -> int | None:
        """Index of the first token that differs; None where the output is the right answer or goes on after it."""
        for at, token in enumerate(self.right):
            if self.said[at : at + 1] != (token,):
                return at
        return None


def right_text(task: Task, item: Item) -> str:
    """A right output: the worked steps where the family knows them, else the target."""
    steps = task.worked_steps(item) if isinstance(task, Stepwise) else ()
    return "".join(steps) or item.target


def answered(right: Sequence[Encoded], said: Sequence[Encoded]) -> list[Answered]:
    """Right answers and outputs of the same prompts, paired; an item whose answer has no token is left out."""
    pairs = zip(right, said, strict=True)
    rows = [Answered(one.input_ids[: one.prompt_length], answer_ids(one), answer_ids(other)) for one, other in pairs]
    return [row for row in rows if row.right]
