"""Own suites in Python: a function that draws questions from a seed becomes a task family by the decorator `suite`.

A benchmark that is drawn anew cannot be memorised. Knows questions; knows neither models nor any one suite.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mendloop.core.errors import InvalidRecipe
from mendloop.core.records import Axes, Example, Item, Score, Split, fingerprint
from mendloop.core.tasks import Conditions, Options, Task, matches

PATIENCE = 2000
"""Draws in a row without a new question after which a generator counts as exhausted."""
LESSON_PATIENCE = 10_000
"""Draws in a row outside a slice after which the teacher has nothing for it."""
SPLITS: tuple[Split, ...] = ("search", "confirm", "sealed")


@dataclass(frozen=True, slots=True)
class Question:
    """One drawn question. document is JSON for the scorer, where it needs more than the target."""

    prompt: str
    target: str
    axes: Axes = field(default_factory=dict)
    document: str = ""

    @property
    def content_id(self) -> str:
        """The same content has the same id, under any seed."""
        return hashlib.sha256(f"{self.prompt}\0{self.target}".encode()).hexdigest()[:16]


M = TypeVar("M", bound=BaseModel)
Draw = Callable[[Options, random.Random], Iterator[Question]]
Lesson = Callable[[Conditions], Draw]
"""How a family draws for a slice, where its teacher does not draw as its items are drawn."""
Scorer = Callable[[Item, str], Score]


class FreshOptions(BaseModel):
    """Options that every drawn suite has beside its own."""

    model_config = ConfigDict(frozen=True)

    draw: int = Field(0, description="Number of the draw: another number, other items.")
    folds: int = Field(
        1,
        ge=1,
        description="Draws whose numbers differ modulo this share no item for certain; costs as many draws more.",
    )


class DrawOptions(BaseModel):
    """corpus and pool of a drawn suite: so many examples, from a seed of their own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int = Field(ge=1)
    seed: int = 0


def exact(item: Item, output: str) -> Score:
    """Whether the output is the target, white space aside."""
    return Score(1.0, "exact") if output.split() == item.target.split() else Score(0.0, "none")


def lenient(item: Item, output: str) -> Score:
    """Whether the output, its last line, or what follows "answer is" or "answer:" is the target in any case."""
    lines = [line for line in output.splitlines() if line.strip()]
    marked = output.casefold().replace("answer:", "answer is").rpartition("answer is")[2]
    for rule, text in {"whole": output, "last_line": lines[-1] if lines else "", "after_marker": marked}.items():
        if text.casefold().strip(" .\n").split() == item.target.casefold().strip(" .").split():
            return Score(1.0, rule)
    return Score(0.0, "none")


def suite(
    *, scorer: Scorer = exact, rescorer: Scorer = lenient, stop: tuple[str, ...] = ()
) -> Callable[[Draw], Callable[[Options], Task]]:
    """Makes a function that draws questions a task family for an entry point of the group mendloop.tasks.

        @suite(stop=("\\n",))
        def sums(options, rng):
            while True:
                a, b = rng.randrange(100), rng.randrange(100)
                yield Question(f"{a} + {b} =", str(a + b), axes={"carry": (str(a % 10 + b % 10 > 9),)})

    The function yields questions, endless or not, as the generator it is given decides: everything comes from the seed.
    """

    def family(draw: Draw) -> Callable[[Options], Task]:
        def made(options: Options) -> Task:
            return DrawnTask(draw, options, scorer=scorer, rescorer=rescorer, stop_strings=stop)

        made.__doc__, made.__name__ = draw.__doc__, draw.__name__
        return made

    return family


class DrawnTask:
    """The Task of a drawn suite. Items, corpus, pool and teacher have generators of their own."""

    asker = None

    def __init__(
        self,
        draw: Draw,
        options: Options,
        *,
        scorer: Scorer,
        rescorer: Scorer,
        stop_strings: tuple[str, ...],
        lesson: Lesson | None = None,
    ) -> None:
        try:
            self._fresh = FreshOptions.model_validate(dict(options))
        except ValidationError as error:
            raise InvalidRecipe(f"suite.options of a drawn suite: {error}") from error
        self._draw = draw
        self._lesson: Lesson = lesson or (lambda conditions: draw)
        self._options = {name: value for name, value in options.items() if name not in FreshOptions.model_fields}
        self._scorer, self._rescorer, self.stop_strings = scorer, rescorer, stop_strings
        self._seen: dict[str, Question] = {}

    def corpus(self, options: Options) -> list[Example]:
        """count examples from a seed; never those that the items are drawn from."""
        return self._examples("corpus", options)

    def pool(self, options: Options) -> list[Example]:
        """count examples from a seed of their own."""
        return self._examples("pool", options)

    def items(self, *, counts: Mapping[str, int], seed: int) -> list[Item]:
        """Different questions, as many as are asked for, of this draw's fold.

        Raises InvalidRecipe where the generator has no more.
        """
        wanted = sum(counts.values())
        fresh = (q for q in self._questions("items", seed) if self._is_in_fold(q))
        drawn = list(islice(fresh, wanted))
        if len(drawn) < wanted:
            raise InvalidRecipe(
                f"the generator has {len(drawn)} different questions of draw {self._fresh.draw} (folds:"
                f" {self._fresh.folds}) and {wanted} are asked for; ask for fewer or for fewer folds"
            )
        splits = [split for split in SPLITS for _ in range(counts.get(split, 0))]
        return [
            Item(q.content_id, q.prompt, q.target, split, document=q.document, axes=q.axes)
            for q, split in zip(drawn, splits, strict=True)
        ]

    def annotate(self, prompt: str) -> Axes:
        """The axes of a question that this task has drawn; none of others."""
        found = self._seen.get(prompt)
        return found.axes if found else {}

    def score(self, item: Item, output: str) -> Score:
        """The suite's scorer."""
        return self._scorer(item, output)

    def rescore(self, item: Item, output: str) -> Score:
        """The suite's scorer, then the lenient one."""
        own = self._scorer(item, output)
        return own if own.value >= 1 else self._rescorer(item, output)

    def verify(self, prompt: str, answer: str) -> bool:
        """Whether the scorer gives the answer full score; False for a prompt that this task has not drawn."""
        found = self._seen.get(prompt)
        if found is None:
            return False
        item = Item(found.content_id, found.prompt, found.target, "search", document=found.document, axes=found.axes)
        return self._scorer(item, answer).value >= 1

    def teach(self, conditions: Conditions, *, seed: int) -> Iterator[Example]:
        """Questions of a slice with their targets, from the teacher's own generator, while it still meets the slice."""
        missed = 0
        for question in self._questions("teacher", seed, draw=self._lesson(conditions)):
            missed += 1
            if missed > LESSON_PATIENCE:
                return
            if matches(question.axes, conditions):
                missed = 0
                yield Example(question.prompt, question.target, "teacher", axes=question.axes)

    def _examples(self, source: str, options: Options) -> list[Example]:
        try:
            chosen = DrawOptions.model_validate(dict(options))
        except ValidationError as error:
            raise InvalidRecipe(f"options of a drawn {source} are count and seed: {error}") from error
        drawn = islice(self._questions(source, chosen.seed), chosen.count)
        return [Example(q.prompt, q.target, source, axes=q.axes) for q in drawn]

    def _questions(self, purpose: str, seed: int, *, draw: Draw | None = None) -> Iterator[Question]:
        """Each different question once. Hashed seeds: with seed + 1 a generator may repeat the last seed's draws."""
        key = f"{purpose}/{seed}/{self._fresh.draw if purpose == 'items' else ''}"
        rng = random.Random(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big"))
        known: set[str] = set()
        repeated = 0
        for question in (draw or self._draw)(self._options, rng):
            mark = fingerprint(question.prompt)
            if mark in known:
                repeated += 1
                if repeated >= PATIENCE:
                    return
                continue
            repeated = 0
            known.add(mark)
            self._seen[question.prompt] = question
            yield question

    def _is_in_fold(self, question: Question) -> bool:
        fold = int(fingerprint(question.prompt)[:8], 16) % self._fresh.folds
        return fold == self._fresh.draw % self._fresh.folds


def checked(model: type[M], options: Options, *, family: str) -> M:
    """A suite's own options. Raises InvalidRecipe."""
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        raise InvalidRecipe(f"suite.options of task {family}: {error}") from error
