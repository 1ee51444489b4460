"""Owns what a judge is asked and answers. Knows no model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Choice = Literal["first", "second", "tie"]
_VERDICT = re.compile(r"\b(yes|no)\b", re.IGNORECASE)
_CHOICE = re.compile(r"\b(A|B|tie)\b")


@dataclass(frozen=True, slots=True)
class Question:
    """One output to be judged: does it satisfy the criterion?"""

    criterion: str
    prompt: str
    output: str
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The answer; None where the judge's words hold no answer. said: its words."""

    is_met: bool | None
    said: str


class Judge(Protocol):
    """Says whether outputs satisfy criteria. seed draws another answer where the judge samples."""

    def judge(self, questions: Sequence[Question], *, seed: int = 0) -> list[Judgement]:
        """One judgement for each question, in order."""


class PairJudge(Protocol):
    """Says which of two outputs is the better."""

    def prefer(self, questions: Sequence[tuple[Question, Question]]) -> list[Choice | None]:
        """The better of each pair; None where the judge's words hold no answer."""


def judge_prompt(question: Question) -> str:
    """The text that a judge model continues."""
    reference = f"\nReference answer:\n{question.reference}\n" if question.reference else ""
    return (
        f"You judge an answer by one criterion and say only Yes or No.\nCriterion: {question.criterion}\n\n"
        f"Question:\n{question.prompt}\n{reference}\nAnswer:\n{question.output}\n\n"
        "Does the answer satisfy the criterion? Say Yes or No.\nVerdict:"
    )


def pair_prompt(first: Question, second: Question) -> str:
    """The text for a comparison of two answers to one question."""
    return (
        f"You compare two answers by one criterion and say only A, B or tie.\nCriterion: {first.criterion}\n\n"
        f"Question:\n{first.prompt}\n\nAnswer A:\n{first.output}\n\nAnswer B:\n{second.output}\n\n"
        "Which answer satisfies the criterion better? Say A, B or tie.\nVerdict:"
    )


def read_judgement(said: str) -> Judgement:
    """Yes or No in a judge's words: the only one that they hold; None where there is none or both."""
    found = {word.lower() for word in _VERDICT.findall(said)}
    return Judgement(found == {"yes"} if len(found) == 1 else None, said)


def read_choice(said: str) -> Choice | None:
    """A, B or tie in a judge's words, or None."""
    found = set(_CHOICE.findall(said))
    names: dict[str, Choice] = {"A": "first", "B": "second", "tie": "tie"}
    return names[found.pop()] if len(found) == 1 else None
