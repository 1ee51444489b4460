"""Where no program verifies an answer: the teacher answers the prompt anew, several times, and must say the same."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from mendloop.core.events import stable_hash
from mendloop.core.records import Example
from mendloop.data_generator.adapters.correspondence import Correspondence, Letter
from mendloop.data_generator.domain.ledger import VERIFICATION
from mendloop.data_generator.domain.lesson import answering_request, read_completion

DISAGREES = "no program verifies this task, and too few of the teacher's own answers agree with the written one"


class Agreement:
    """A Check of the stage verification. Answers are drawn by seeds of their own; none sees the written answer."""

    def __init__(
        self,
        correspondence: Correspondence,
        *,
        corpus: Sequence[Example],
        is_same: Callable[[Example, str], bool],
        shots: int,
        answers: int,
        share: float,
    ) -> None:
        self._correspondence, self._corpus, self._is_same = correspondence, corpus, is_same
        self._shots, self._answers, self._share = shots, answers, share

    @property
    def stage(self) -> str:
        """It stands in for a program."""
        return VERIFICATION

    def objection(self, example: Example) -> str:
        """Empty where enough answers agree; one that is missing or cannot be read agrees with nothing.

        Raises SourceGaveUp where the teacher does not answer.
        """
        draws = random.Random(stable_hash("agreement", example.prompt))
        shots = draws.sample(self._corpus, min(self._shots, len(self._corpus)))
        text = answering_request(shots, example.prompt)
        letters = [Letter(text, draws.getrandbits(31)) for _ in range(self._answers)]
        replies = self._correspondence.replies(letters)
        agreeing = sum(said is not None and self._is_same(example, read_completion(said.text)) for said in replies)
        return "" if agreeing >= self._share * self._answers else DISAGREES
