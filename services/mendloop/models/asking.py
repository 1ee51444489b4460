"""How a task family asks a model in its own way, e.g. for the log-probabilities of choices. Knows no family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, cast

from mendloop.core.records import Item
from mendloop.models.generation import Generation, LanguageModel, TokenLogprobs


class Asker(Protocol):
    """Turns items into requests to a model, and the model's answers into one output and one target each."""

    def ask(
        self, items: Sequence[Item], *, model: LanguageModel, prompt: Callable[[str], str]
    ) -> tuple[list[Generation], list[TokenLogprobs]]:
        """For each item the output that the family's scorer reads, and the log-probabilities of its target.

        prompt puts a text into the run's template.
        """


def asker_of(task: object) -> Asker | None:
    """The asker of a family (its attribute `asker`); None: each item is one greedy output of its prompt."""
    return cast("Asker | None", getattr(task, "asker", None))


def scored_text(task: object, generation: Generation) -> str:
    """What a family's scorer reads, and what is stored: the text; all that was said where the family `keeps_lead`."""
    return generation.lead + generation.text if getattr(task, "keeps_lead", False) else generation.text
