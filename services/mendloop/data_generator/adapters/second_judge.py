"""Where no program verifies an answer: another model judges it, once its own error is known from the corpus.

Right answers are those of the corpus, wrong ones those of other prompts of it: easier to tell than a near miss.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from mendloop.core.errors import Permanent
from mendloop.core.events import stable_hash
from mendloop.core.records import Example
from mendloop.core.teaching_settings import TeacherJudgeSettings
from mendloop.data_generator.adapters.correspondence import Correspondence, Letter
from mendloop.data_generator.domain.ledger import VERIFICATION
from mendloop.data_generator.ports import Check, SourceGaveUp
from mendloop.judging.error import JudgeError, Labelled, Limits, admit, measure_judge
from mendloop.judging.port import Judgement, Question, judge_prompt, read_judgement

REFUSES = "no program verifies this task, and the second judge does not accept the answer"
SILENT = "no program verifies this task, and the second judge says neither yes nor no"
_CRITERION = "The answer is the right one to the question. Questions with right answers:"


class SecondJudge:
    """A Check of the stage verification. It is measured when it is first asked; one that errs too much ends the source.

    is_same: whether an answer is as good as the example's own; such a one is no wrong answer.
    """

    def __init__(
        self,
        correspondence: Correspondence,
        settings: TeacherJudgeSettings,
        *,
        corpus: Sequence[Example],
        is_same: Callable[[Example, str], bool],
        shots: int,
    ) -> None:
        self._correspondence, self._settings, self._is_same = correspondence, settings, is_same
        rows = list(corpus)
        random.Random(stable_hash("second-judge", settings.model)).shuffle(rows)
        told, self._labelled = rows[:shots], rows[shots:]
        self._criterion = "\n".join(
            [_CRITERION, *(f"Question: {row.prompt}\nAnswer: {row.completion}" for row in told)]
        )
        self._error: JudgeError | None = None

    @property
    def stage(self) -> str:
        """It stands in for a program."""
        return VERIFICATION

    def objection(self, example: Example) -> str:
        """Empty where it accepts the answer. Raises SourceGaveUp where it is silent, refuses or errs too much."""
        self._measure()
        (said,) = self.judge([self._question(example, example.completion)])
        if said.is_met is None:
            return SILENT
        return "" if said.is_met else REFUSES

    def judge(self, questions: Sequence[Question], *, seed: int = 0) -> list[Judgement]:
        """The Judge of mendloop.judging over letters; no reply is no verdict. Raises SourceGaveUp as replies do."""
        replies = self._correspondence.replies([Letter(judge_prompt(question), seed) for question in questions])
        return [read_judgement(said.text) if said else Judgement(None, "") for said in replies]

    def notes(self) -> tuple[str, ...]:
        """What was measured of it, for the ledger; nothing where it was never asked."""
        if self._error is None:
            return ()
        rates = (("sensitivity", self._error.sensitivity), ("specificity", self._error.specificity))
        words = ", ".join(
            f"{name} {rate.value:.2f} [{rate.interval.low:.2f}, {rate.interval.high:.2f}] of {rate.n}"
            for name, rate in rates
        )
        return (f"second judge {self._settings.model}, measured on answers of the corpus: {words}",)

    def _measure(self) -> None:
        settings = self._settings
        if self._error is None:
            self._error = measure_judge(self, self._items())
        try:
            admit(self._error, limits=Limits(settings.sensitivity, settings.specificity, settings.items))
        except Permanent as error:
            raise SourceGaveUp(f"the second judge {settings.model} may not judge: {error}") from error

    def _items(self) -> list[Labelled]:
        """Right and wrong answers to prompts of the corpus, as many of each as the recipe asks for and it has."""
        rows = self._labelled[: self._settings.items]
        right = [Labelled(self._question(row, row.completion), is_met=True) for row in rows]
        wrong = [
            Labelled(self._question(row, other), is_met=False)
            for at, row in enumerate(rows)
            for other in self._wrong_answer(row, at)
        ]
        return right + wrong

    def _wrong_answer(self, row: Example, at: int) -> list[str]:
        """The next other answer in the shuffled corpus, or none where all are as good."""
        others = (*self._labelled[at + 1 :], *self._labelled[:at])
        return [other.completion for other in others if not self._is_same(row, other.completion)][:1]

    def _question(self, example: Example, answer: str) -> Question:
        return Question(self._criterion, example.prompt, answer)


class Both:
    """Two checks of one stage: the second is asked about what the first lets pass."""

    def __init__(self, first: Check, second: Check) -> None:
        self._first, self._second = first, second

    @property
    def stage(self) -> str:
        """That of both."""
        return self._first.stage

    def objection(self, example: Example) -> str:
        """The first objection; empty where there is none."""
        return self._first.objection(example) or self._second.objection(example)
