"""Modular arithmetic as a task family: corpus, items, scorers, verifier, teacher, hooks. Imports no model."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from mendloop.core.records import Axes, Example, Item, Score, Split
from mendloop.core.tasks import Conditions, Options, matches
from mendloop.examples.drawing import DrawnCorpus, checked, split_items
from mendloop.examples.modular.drawing import draw, is_held_out, like
from mendloop.examples.modular.grammar import (
    ANSWER,
    CONSTANTS,
    OPENINGS,
    UNUSUAL,
    Question,
    axes_of,
    completion,
    fact,
    pieces,
    read,
    solve,
)

OPEN_SHARE = 0.25
"""Examples of the corpus that state a value before the question, so that a model learns to read it."""
TWIN_TRIES = 400
MARKER = "####"
NAME = "modular"


class SuiteOptions(BaseModel):
    """suite.options. scorer: "answer" reads the number after the last "answer"; the others are faulty on purpose."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scorer: Literal["answer", "first", "marker"] = Field("answer", description="first number; number after ####")


class CorpusOptions(DrawnCorpus):
    """The recipe's corpus, and its pool."""

    open_share: float = Field(OPEN_SHARE, ge=0, le=1)


class ModularTask:
    """The Task of modular arithmetic; see grammar."""

    stop_strings: tuple[str, ...] = ()

    def __init__(self, options: Options) -> None:
        self._options = checked(SuiteOptions, options, section="suite.options", task=NAME)

    def corpus(self, options: Options) -> list[Example]:
        """Different questions with worked completions, none of an expression that evaluation has."""
        return _examples(options, source="corpus")

    def pool(self, options: Options) -> list[Example]:
        """The same from a random state of its own."""
        return _examples(options, source="pool")

    def items(self, *, counts: Mapping[str, int], seed: int) -> list[Item]:
        """Different questions without stated values. Raises InvalidRecipe where there are not as many."""
        drawn = draw(random.Random(f"items/{seed}"), open_share=0.0, held_out=True)
        return split_items(drawn, counts, item_of=item_of)

    def annotate(self, prompt: str) -> Axes:
        """Axis values of a question; none where the prompt holds no question."""
        question = read(prompt)
        return axes_of(question) if question else {}

    def score(self, item: Item, output: str) -> Score:
        """Whether the number after the last "answer" is that of the target; else the first wrong step."""
        said = _SCORERS[self._options.scorer](output)
        if said is None:
            return Score(0.0, "none")
        if said == _last_number(item.target):
            return Score(1.0, self._options.scorer)
        wrong = _first_wrong(item, output)
        return Score(0.0, self._options.scorer, first_wrong_step=wrong[0], wrong_operation=wrong[1])

    def rescore(self, item: Item, output: str) -> Score:
        """Whether the last number of the output is that of the target."""
        said = _last_number(output)
        return Score(float(said == _last_number(item.target)), "none" if said is None else "last number")

    def verify(self, prompt: str, answer: str) -> bool:
        """Whether the answer ends in the right number; False where the prompt holds no question."""
        question = read(prompt)
        return question is not None and _last_number(answer) == str(solve(question)[-1].result)

    def answer(self, prompt: str) -> str:
        """The worked completion; empty where the prompt holds no question."""
        question = read(prompt)
        return completion(solve(question)) if question is not None else ""

    def teach(self, conditions: Conditions, *, seed: int) -> Iterator[Example]:
        """Different questions of a slice with worked completions, none of an expression that evaluation has."""
        for question in draw(random.Random(f"teach/{seed}"), open_share=0.0, held_out=False):
            if matches(axes_of(question), conditions):
                yield example_of(question, source="teacher:modular-arithmetic")

    def rewordings(self, prompt: str) -> Sequence[str]:
        """The question in the wordings of the corpus, without its own."""
        question = read(prompt)
        if question is None:
            return ()
        usual = [Question(question.terms, question.operations, wording, question.given) for wording in OPENINGS]
        return tuple(other.prompt for other in usual if other.prompt != prompt)

    def worked_steps(self, item: Item) -> Sequence[str]:
        """Each step, then the answer."""
        question = read(item.prompt)
        return pieces(solve(question)) if question else ()

    def operations(self, prompt: str) -> Sequence[str]:
        """The operation of each step, then the answer; empty where the prompt holds no question."""
        question = read(prompt)
        return (*question.operations, ANSWER) if question else ()

    def background(self, item: Item) -> str:
        """The values of the constants in the question; empty where it has none."""
        question = read(item.prompt)
        names = dict.fromkeys(term for term in question.terms if term in CONSTANTS) if question else {}
        return " ".join(fact(name, CONSTANTS[name]) for name in names)

    def twin(self, item: Item, *, seed: int) -> Item | None:
        """Another question of evaluation that shares a table and has the same values on every other axis."""
        question = read(item.prompt)
        if question is None:
            return None
        rng = random.Random(f"twin/{seed}/{item.item_id}")
        for _ in range(TWIN_TRIES):
            other = like(question, rng)
            if other.terms != question.terms and is_held_out(other) and _are_alike(axes_of(question), axes_of(other)):
                return item_of(other, item.split)
        return None


def example_of(question: Question, *, source: str) -> Example:
    """The question with its worked completion."""
    return Example(question.prompt, completion(solve(question)), source, axes=axes_of(question))


def item_of(question: Question, split: Split) -> Item:
    """The question as an item; its target is the worked completion."""
    item_id = hashlib.sha256(f"modular/{question.prompt}".encode()).hexdigest()[:16]
    return Item(item_id, question.prompt, completion(solve(question)), split, axes=axes_of(question))


def in_unusual_words(prompt: str) -> str:
    """The question in words that no corpus has; the prompt itself where it holds no question."""
    question = read(prompt)
    if question is None:
        return prompt
    return Question(question.terms, question.operations, UNUSUAL, question.given).prompt


def _are_alike(one: Axes, other: Axes) -> bool:
    """Both tables alike would leave no other question."""
    return all(set(one[axis]) == set(other[axis]) for axis in one if axis != "table") and bool(
        set(one["table"]) & set(other["table"])
    )


def _examples(options: Options, *, source: str) -> list[Example]:
    chosen = checked(CorpusOptions, options, section=source, task=NAME)
    rng = random.Random(f"{source}/{chosen.seed}")
    drawn = islice(draw(rng, open_share=chosen.open_share, held_out=False), chosen.count)
    return [example_of(question, source=source) for question in drawn]


def _after(mark: str, text: str) -> str | None:
    """The number right after the last mark."""
    found = re.findall(rf"{mark}\s+(\d+)", text)
    return found[-1] if found else None


def _last_number(text: str) -> str | None:
    numbers = re.findall(r"\d+", text)
    return numbers[-1] if numbers else None


def _first_number(text: str) -> str | None:
    return next(iter(re.findall(r"\d+", text)), None)


_SCORERS: dict[str, Callable[[str], str | None]] = {
    "answer": lambda text: _after(ANSWER, text),
    "first": _first_number,
    "marker": lambda text: _after(MARKER, text),
}


def _first_wrong(item: Item, output: str) -> tuple[int | None, str]:
    """Index and operation of the first step that is not the right one; none where the output has no steps."""
    question = read(item.prompt)
    said = [part.split() for part in output.split(";")]
    if question is None or "is" not in said[0]:
        return None, ""
    for index, step in enumerate(solve(question)):
        if index >= len(said) or said[index] != step.text.split():
            return index, step.operation
    return len(question.operations), ANSWER
