"""Short SCAN as a task family: corpus, items, scorers, verifier, teacher, hooks. Imports no model."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from mendloop.core.records import Axes, Example, Item, Score, Split
from mendloop.core.tasks import Conditions, Options, matches
from mendloop.examples.drawing import DrawnCorpus, checked, split_items
from mendloop.examples.scan.short.drawing import alike, draw
from mendloop.examples.scan.short.grammar import (
    ANSWER,
    LAMPS,
    SECOND_NAMES,
    Request,
    axes_of,
    completion,
    meaning,
    pieces,
    read,
)
from mendloop.steps.scan import END, ScanChecker, operations
from mendloop.steps.supervision import supervise

OPEN_SHARE = 0.3
"""Examples of the corpus that explain a verb before the command, so that a model learns to read it."""
MARKER = "####"
NAME = "scan-short"


class SuiteOptions(BaseModel):
    """suite.options. scorer: "answer" reads the whole output, or the lamp asked for; the others are faulty."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scorer: Literal["answer", "drop_last", "marker"] = Field(
        "answer", description="drop_last takes the last word for an EOS; marker wants ####"
    )


class CorpusOptions(DrawnCorpus):
    """The recipe's corpus, and its pool."""

    open_share: float = Field(OPEN_SHARE, ge=0, le=1)


class ShortScanTask:
    """The Task of short SCAN commands; see grammar."""

    stop_strings: tuple[str, ...] = ()

    def __init__(self, options: Options) -> None:
        self._scorer = checked(SuiteOptions, options, section="suite.options", task=NAME).scorer

    def corpus(self, options: Options) -> list[Example]:
        """Different requests, none of a plain command that evaluation has."""
        return _examples(options, source="corpus")

    def pool(self, options: Options) -> list[Example]:
        """The same from a random state of its own."""
        return _examples(options, source="pool")

    def items(self, *, counts: Mapping[str, int], seed: int) -> list[Item]:
        """Different requests without explained verbs. Raises InvalidRecipe where there are not as many."""
        drawn = draw(random.Random(f"items/{seed}"), open_share=0.0, held_out=True)
        return split_items(drawn, counts, item_of=item_of)

    def annotate(self, prompt: str) -> Axes:
        """Axis values of a request; none where the prompt holds none."""
        request = read(prompt)
        return axes_of(request) if request else {}

    def score(self, item: Item, output: str) -> Score:
        """Whether the actions, or the lamp asked for, are those of the target; else the first wrong action."""
        said = _read_output(output, scorer=self._scorer)
        if said is None:
            return Score(0.0, "none")
        if said == _answer(item.target):
            return Score(1.0, self._scorer)
        index, operation = _first_wrong(item, output)
        return Score(0.0, self._scorer, first_wrong_step=index, wrong_operation=operation)

    def rescore(self, item: Item, output: str) -> Score:
        """Whether the last lamp in the output, or its actions among other text, are those of the target."""
        wanted = _answer(item.target)
        if wanted in LAMPS:
            said = [word for word in re.findall(r"\w+", output.lower()) if word in LAMPS]
            return Score(float(said[-1:] == [wanted]), "last lamp" if said else "none")
        actions = " ".join(word for word in output.upper().split() if word.startswith("I_"))
        return Score(float(actions == wanted), "actions" if actions else "none")

    def verify(self, prompt: str, answer: str) -> bool:
        """Whether the answer is right, steps aside; False where the prompt holds no request."""
        request = read(prompt)
        return request is not None and _answer(answer) == _answer(completion(request))

    def teach(self, conditions: Conditions, *, seed: int) -> Iterator[Example]:
        """Different requests of a slice, none of a plain command that evaluation has."""
        for request in draw(random.Random(f"teach/{seed}"), open_share=0.0, held_out=False):
            if matches(axes_of(request), conditions):
                yield example_of(request, source="teacher:scan-grammar")

    def rewordings(self, prompt: str) -> Sequence[str]:
        """The request in SCAN's own words, then with second names; without its own wording."""
        request = read(prompt)
        if request is None:
            return ()
        second = {verb: name for name, verb in SECOND_NAMES.items()}
        named = " ".join(second.get(word, word) for word in request.plain.split())
        usual = [Request(text, request.kind).prompt for text in (request.plain, named)]
        return tuple(dict.fromkeys(text for text in usual if text != prompt))

    def worked_steps(self, item: Item) -> Sequence[str]:
        """The actions of each phrase, and the answer where a lamp is asked for."""
        request = read(item.prompt)
        return pieces(request) if request else ()

    def operations(self, prompt: str) -> Sequence[str]:
        """The word of the plain command that asks for each action, then the end; empty where there is no request."""
        request = read(prompt)
        return (*operations(request.plain), END) if request else ()

    def background(self, item: Item) -> str:
        """What the second names in the command mean; empty where it has none."""
        request = read(item.prompt)
        words = dict.fromkeys(request.command.split()) if request else {}
        return " ".join(meaning(word, SECOND_NAMES[word]) for word in words if word in SECOND_NAMES)

    def twin(self, item: Item, *, seed: int) -> Item | None:
        """Another request of evaluation with the same values on every axis, in whatever order."""
        request = read(item.prompt)
        found = alike(request) if request else []
        return item_of(random.Random(f"twin/{seed}/{item.item_id}").choice(found), item.split) if found else None


def example_of(request: Request, *, source: str) -> Example:
    """The request with its completion."""
    return Example(request.prompt, completion(request), source, axes=axes_of(request))


def item_of(request: Request, split: Split) -> Item:
    """The request as an item; its target is the whole completion."""
    item_id = hashlib.sha256(f"scan-short/{request.prompt}".encode()).hexdigest()[:16]
    return Item(item_id, request.prompt, completion(request), split, axes=axes_of(request))


def _examples(options: Options, *, source: str) -> list[Example]:
    chosen = checked(CorpusOptions, options, section=source, task=NAME)
    rng = random.Random(f"{source}/{chosen.seed}")
    drawn = islice(draw(rng, open_share=chosen.open_share, held_out=False), chosen.count)
    return [example_of(request, source=source) for request in drawn]


def _answer(text: str) -> str:
    """What a completion answers: the word after the last "answer", else its words."""
    found = re.findall(rf"\b{ANSWER}\s+(\w+)", text)
    return str(found[-1]) if found else " ".join(text.split())


def _read_output(output: str, *, scorer: str) -> str | None:
    if scorer == "marker":
        _, mark, rest = output.rpartition(MARKER)
        return _answer(rest) if mark else None
    return _answer(" ".join(output.split()[:-1]) if scorer == "drop_last" else output)


def _first_wrong(item: Item, output: str) -> tuple[int | None, str]:
    """Index of the first wrong action and the word that asks for it; none where the output has no actions."""
    request = read(item.prompt)
    actions = " ".join(word for word in output.split() if word.startswith("I_"))
    if request is None or not actions:
        return None, ""
    wrong = supervise(request.plain, actions, checkers=[ScanChecker()]).first_wrong
    return (wrong.step.index, wrong.operation) if wrong else (None, "")
