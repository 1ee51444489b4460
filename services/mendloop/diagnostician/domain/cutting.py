"""Cutting an output where its target would end: what remains if the model had stopped. Knows texts and scorers."""

from __future__ import annotations

import re

from mendloop.core.records import Item
from mendloop.core.tasks import Task

_WORD = re.compile(r"\S+")


def cut_at_target(output: str, target: str) -> tuple[str, ...]:
    """The beginning of an output with as many words as the target, and with as many characters.

    Only beginnings: looking for the target anywhere would find short answers in any long text.
    """
    words = list(_WORD.finditer(output))
    count = len(target.split())
    by_words = output[: words[count - 1].end()] if 0 < count <= len(words) else output
    return tuple(dict.fromkeys((by_words, output.lstrip()[: len(target)])))


def is_right_when_cut(task: Task, item: Item, output: str) -> bool:
    """Whether the suite's own scorer accepts the output as it is, or cut where the target ends."""
    return any(task.score(item, text).value >= 1 for text in (output, *cut_at_target(output, item.target)))


def is_right_in_any_form(task: Task, item: Item, output: str) -> bool:
    """Whether either scorer accepts the output, whole or (the suite's own) cut where the target ends.

    Counterfactual probes judge before and after by it: a fault of scorer or EOS neither hides nor feigns theirs.
    """
    return is_right_when_cut(task, item, output) or task.rescore(item, output).value >= 1
