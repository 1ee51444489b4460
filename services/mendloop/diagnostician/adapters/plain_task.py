"""A task for outcomes of which nothing else is known: no corpus, no program that tells right from wrong.

Knows the stored outcomes and the texts in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from mendloop.core.records import Axes, Example, Item, Outcome, Score
from mendloop.core.tasks import Conditions, Options
from mendloop.suites.importers.answers import score_answer

_WORD = re.compile(r"-?\d+(?:[.,]\d+)*|\w+")


class PlainTask:
    """A Task whose score of a stored output is the stored one.

    Any other output of an item is compared with its target as a whole; agreement says how far that rule fits the
    stored scores.
    """

    stop_strings: tuple[str, ...] = ()

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self._stored = {(row.item_id, row.output): Score(row.score, row.extraction) for row in outcomes}
        self._axes = {row.prompt: row.axes for row in outcomes}
        same = sum((score_answer(row.output, row.target).value >= 1) == row.is_correct for row in outcomes)
        self.agreement = same / len(outcomes) if outcomes else 1.0
        """Share of stored outcomes that the comparison with the target scores as they are stored."""

    def corpus(self, options: Options) -> list[Example]:
        """Nothing: the corpus is a file of its own."""
        return []

    def pool(self, options: Options) -> list[Example]:
        """Nothing."""
        return []

    def items(self, *, counts: Mapping[str, int], seed: int) -> list[Item]:
        """Nothing: the items are those of the outcomes."""
        return []

    def annotate(self, prompt: str) -> Axes:
        """The axes of an evaluated prompt; none for any other."""
        return self._axes.get(prompt, {})

    def score(self, item: Item, output: str) -> Score:
        """The stored score of a stored output, else whether the whole output is the target."""
        return self._stored.get((item.item_id, output)) or score_answer(output, item.target)

    def rescore(self, item: Item, output: str) -> Score:
        """Whether the words of the target stand together in the last line of the output, case and punctuation aside."""
        lines = output.strip().splitlines()
        said, wanted = _words(lines[-1]) if lines else [], _words(item.target)
        found = any(said[at : at + len(wanted)] == wanted for at in range(len(said) - len(wanted) + 1))
        return Score(1.0, "last_line") if wanted and found else Score(0.0, "none")

    def verify(self, prompt: str, answer: str) -> bool:
        """False: no program knows."""
        return False

    def teach(self, conditions: Conditions, *, seed: int) -> Iterator[Example]:
        """Nothing."""
        return iter(())


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
