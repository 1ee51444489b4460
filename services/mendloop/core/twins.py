"""Fresh twins of a suite's items: drawn at submission, a set for each round, measured once. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mendloop.core.events import stable_hash
from mendloop.core.records import Item, fingerprint
from mendloop.core.task_hooks import Renewing
from mendloop.core.tasks import Task

TRIES = 10
"""Draws of a twin, each with another seed, before an item counts as having none that is new."""
_MARK = "/twin-"


@dataclass(frozen=True, slots=True)
class Twins:
    """Twins of all rounds, and how many items had none that was new."""

    items: tuple[Item, ...]
    missing_count: int


def draw_twins(task: Task, items: Sequence[Item], *, rounds: int, seed: int, taken: set[str]) -> Twins:
    """A twin of each item for each round, none alike and none whose fingerprint is taken.

    They count as sealed: their words go nowhere but to the evaluator. Raises ValueError for a family without the hook.
    """
    if not isinstance(task, Renewing):
        raise ValueError("the task family draws no twins (it has no method twin)")
    marks, found, missing = set(taken), [], 0
    for number in range(1, rounds + 1):
        for item in items:
            twin = _new_twin(task, item, seed=f"{seed}/{number}", marks=marks)
            if twin is None:
                missing += 1
                continue
            marks.add(fingerprint(twin.prompt))
            found.append(replace(twin, item_id=twin_id(item.item_id, number), split="sealed", axes=item.axes))
    return Twins(tuple(found), missing)


def twin_id(item_id: str, number: int) -> str:
    """The id of an item's twin for a round."""
    return f"{item_id}{_MARK}{number}"


def original_of(item_id: str, number: int) -> str | None:
    """The item that a twin of this round stands for, or None where the id is of another round."""
    name, _, found = item_id.rpartition(_MARK)
    return name if found == str(number) else None


def _new_twin(task: Task, item: Item, *, seed: str, marks: set[str]) -> Item | None:
    assert isinstance(task, Renewing)
    bare = replace(item, axes=task.annotate(item.prompt))  # an axis of the recipe means nothing to the family
    for attempt in range(TRIES):
        twin = task.twin(bare, seed=int(stable_hash("twin", seed, item.item_id, str(attempt))[:8], 16))
        if twin is None:
            return None
        if fingerprint(twin.prompt) not in marks:
            return twin
    return None
