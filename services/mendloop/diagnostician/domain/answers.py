"""Right answers as token ids, and where an output leaves them. Knows tasks and encoded texts; knows no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mendloop.core.records import Item
from mendloop.core.task_hooks import Stepwise
from mendloop.core.tasks import Task
from mendloop.models.encoding import Encoded, Ids
from mendloop.models.inspection import answer_ids


@dataclass(frozen=True, slots=True)
class Answered:
    """An item's prompt, its right answer and what was said, as ids; the latter two without the EOS."""

    prompt: Ids
    right: Ids
    said: Ids

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
