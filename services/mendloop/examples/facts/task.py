"""Facts as a task family: items, scorers, verifier, teacher, and the hooks that probes ask for. Knows no model."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import cast

from mendloop.core.errors import InvalidRecipe
from mendloop.core.records import Axes, Example, Item, Score, Split
from mendloop.core.tasks import Conditions, Options, matches
from mendloop.examples.facts.questions import (
    ANSWER,
    STEP,
    WORDINGS,
    Question,
    all_questions,
    answer,
    axes_of,
    facts_needed,
    parse,
    stated,
    worked,
)
from mendloop.examples.facts.world import World, world

SCORERS = ("last_answer", "first_fact", "marker")
HELD_OUT = 0.6
"""Share of what is asked of which one wording is kept for items; the other wording is always in the corpus."""


@dataclass(frozen=True, slots=True)
class FactsOptions:
    """suite.options. scorer: last_answer is right; the others are faulty on purpose."""

    seed: int
    scorer: str

    @staticmethod
    def of(options: Options) -> FactsOptions:
        """Checked options; raises InvalidRecipe."""
        unknown = sorted(set(options) - {"seed", "scorer"})
        if unknown:
            raise InvalidRecipe(f"facts has no options {', '.join(unknown)}; it has seed, scorer")
        seed, scorer = options.get("seed", 0), options.get("scorer", SCORERS[0])
        if not isinstance(seed, int) or scorer not in SCORERS:
            raise InvalidRecipe(
                f"facts: seed {seed!r} is a whole number, scorer {scorer!r} one of {', '.join(SCORERS)}"
            )
        return FactsOptions(seed, str(scorer))


class FactsTask:
    """The Task of invented facts. Options of the suite: seed of the split, scorer."""

    stop_strings: tuple[str, ...] = ()

    def __init__(self, options: Options) -> None:
        self._options = FactsOptions.of(options)
        self._world = world()

    def corpus(self, options: Options) -> list[Example]:
        """Every question that is held out for no item."""
        return healthy_corpus(self._options.seed)

    def pool(self, options: Options) -> list[Example]:
        """Nothing: the teacher knows every question."""
        return []

    def items(self, *, counts: Mapping[str, int], seed: int) -> list[Item]:
        """Disjoint items. Raises InvalidRecipe where more are asked for than questions are held out."""
        drawn = held_out_items(self._options.seed)
        if sum(counts.values()) > len(drawn):
            raise InvalidRecipe(f"facts holds out {len(drawn)} questions; {sum(counts.values())} items were asked for")
        rows = iter(random.Random(f"facts/items/{seed}").sample(drawn, len(drawn)))
        return [replace(next(rows), split=cast(Split, split)) for split, count in counts.items() for _ in range(count)]

    def annotate(self, prompt: str) -> Axes:
        """Axis values of a question; empty where the prompt is none."""
        question = parse(prompt)
        return axes_of(question, self._world) if question else {}

    def score(self, item: Item, output: str) -> Score:
        """Whether the answer that the scorer's rule finds is the target's."""
        found = _EXTRACT[self._options.scorer](output)
        if found is None:
            return Score(0.0, "none")
        return Score(float(found == _last_answer(item.target)), self._options.scorer)

    def rescore(self, item: Item, output: str) -> Score:
        """Whether the word after the last "answer", else the last word, is the target's answer; case is ignored."""
        words = output.lower().replace(".", " ").split()
        found = _last_answer(" ".join(words)) or (words[-1] if words else "")
        is_right = found == (_last_answer(item.target) or "").lower()
        return Score(float(is_right), "answer" if is_right else "none")

    def verify(self, prompt: str, answer_text: str) -> bool:
        """Whether the last answer is right and every fact stated on the way is one; False for what is no question."""
        question = parse(prompt)
        try:
            right = question and answer(question, self._world) == (_last_answer(answer_text) or answer_text.strip())
        except KeyError:
            return False
        return bool(right) and all(_is_true(step, self._world) for step in answer_text.split(STEP.strip()))

    def teach(self, conditions: Conditions, *, seed: int) -> Iterator[Example]:
        """Every question that satisfies the conditions, in a random order of the seed."""
        fitting = [q for q in all_questions(self._world) if matches(axes_of(q, self._world), conditions)]
        for question in random.Random(f"facts/teach/{seed}").sample(fitting, len(fitting)):
            yield _example(question, self._world, source="teacher:facts")

    def rewordings(self, prompt: str) -> Sequence[str]:
        """The question in the usual wordings."""
        question = parse(prompt)
        if question is None:
            return ()
        return [text for text in (replace(question, wording=name).text for name in WORDINGS) if text != prompt]

    def worked_steps(self, item: Item) -> Sequence[str]:
        """The facts and the answer, each with the separator behind it."""
        question = parse(item.prompt)
        if question is None or question.name not in self._world.topic_of:
            return ()
        *steps, last = worked(question, self._world).split(STEP)
        return [*(f"{step}{STEP}" for step in steps), last]

    def background(self, item: Item) -> str:
        """The facts that the question needs, as sentences."""
        question = parse(item.prompt)
        if question is None or question.name not in self._world.topic_of:
            return ""
        return STEP.join(stated(self._world, *fact) for fact in facts_needed(question, self._world))

    def twin(self, item: Item, *, seed: int) -> Item | None:
        """A question of the same axes about another being of the topic."""
        question = parse(item.prompt)
        if question is None or question.name not in self._world.topic_of:
            return None
        topic = self._world.topic_of[question.name]
        names = [n for n, other in self._world.topic_of.items() if other == topic and n != question.name]
        name = random.Random(f"facts/twin/{seed}/{item.item_id}").choice(names)
        return _item(replace(question, name=name), self._world, split=item.split)


def healthy_corpus(seed: int) -> list[Example]:
    """Every question of the usual wordings but the held-out ones."""
    held_out = {question.text for question in _held_out(seed)}
    found = world()
    return [_example(q, found, source="corpus") for q in all_questions(found) if q.text not in held_out]


def held_out_items(seed: int) -> list[Item]:
    """The held-out questions as items, alternately of search and confirm."""
    splits: tuple[Split, Split] = ("search", "confirm")
    return [_item(q, world(), split=splits[at % 2]) for at, q in enumerate(_held_out(seed))]


def _held_out(seed: int) -> list[Question]:
    """One wording of a share of what is asked, in a random order."""
    rng = random.Random(f"facts/held-out/{seed}")
    asked = [q for q in all_questions(world()) if q.wording == WORDINGS[0]]
    chosen = rng.sample(asked, round(HELD_OUT * len(asked)))
    return [replace(question, wording=rng.choice(WORDINGS)) for question in chosen]


def _example(question: Question, known: World, *, source: str) -> Example:
    return Example(question.text, worked(question, known), source, axes=axes_of(question, known))


def _item(question: Question, known: World, *, split: Split) -> Item:
    item_id = hashlib.sha256(f"facts/{question.text}".encode()).hexdigest()[:16]
    return Item(item_id, question.text, worked(question, known), split, axes=axes_of(question, known))


def _last_answer(output: str) -> str | None:
    words = output.split()
    at = max((index for index, word in enumerate(words[:-1]) if word == ANSWER), default=None)
    return None if at is None else words[at + 1]


def _first_fact(output: str) -> str | None:
    """Faulty on purpose: what the first fact says, right where one fact is all that is asked."""
    words = output.split()
    return next((after for word, after in pairwise(words) if word == "is"), None)


def _after_marker(output: str) -> str | None:
    """Faulty on purpose: wants a marker that nobody taught the model to write."""
    return output.partition("####")[2].split()[0] if "#### " in output else None


_EXTRACT = {"last_answer": _last_answer, "first_fact": _first_fact, "marker": _after_marker}


def _is_true(step: str, known: World) -> bool:
    """Whether a stated fact is one; what states no fact is not wrong."""
    words = step.split()
    if len(words) != 5 or words[1] != "of" or words[3] != "is":
        return True
    return known.facts.get((words[0], words[2])) == words[4]
