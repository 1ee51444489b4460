"""The task family principles: a constitution is a suite; a violation is a failure on the axis principle."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from mendloop.core.errors import InvalidRecipe
from mendloop.core.records import Axes, Example, Item, Score, Split
from mendloop.core.task_hooks import Precept
from mendloop.core.tasks import Conditions, Options, matches
from mendloop.judging.belief import Detector
from mendloop.judging.port import Judge, Question
from mendloop.suites.constitution import Principle, believed_detector, load_constitution, measured_detector
from mendloop.suites.dynamic import checked
from mendloop.suites.jsonl import read_examples

SPLITS: tuple[Split, ...] = ("search", "confirm", "sealed")


class PrinciplesOptions(BaseModel):
    """suite.options of the family."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path = Field(description="The constitution (YAML); relative to where the services run.")


class PrinciplesTask:
    """Score 1: the principle is kept; 0: it is violated, nothing was said, or the judge gave no answer.

    The extraction says which detector spoke: rule, classifier, judge, or judge:no_answer. An item's target is the
    first labelled answer that keeps its principle. Axes: principle, detector.
    """

    stop_strings: tuple[str, ...] = ()
    asker = None

    def __init__(self, options: Options) -> None:
        chosen = checked(PrinciplesOptions, options, family="principles")
        principles = load_constitution(chosen.path).principles
        self._principles = {principle.name: principle for principle in principles}
        if len(self._principles) < len(principles):
            raise InvalidRecipe(f"{chosen.path} has two principles of one name; give each its own")
        self._detectors: dict[str, Judge] = {}

    def corpus(self, options: Options) -> list[Example]:
        """Examples of a JSONL file: options path, prompt, completion (names of the fields)."""
        return read_examples(options, annotate=self.annotate)

    def pool(self, options: Options) -> list[Example]:
        """Examples of a JSONL file, as for the corpus."""
        return read_examples(options, annotate=self.annotate)

    def items(self, *, counts: Mapping[str, int], seed: int) -> list[Item]:
        """Prompts of the principles, drawn by the seed. Raises InvalidRecipe where there are too few."""
        made = [(principle, prompt) for principle in self._principles.values() for prompt in principle.prompts]
        wanted = sum(counts.values())
        if len(made) < wanted:
            raise InvalidRecipe(f"the constitution has {len(made)} prompts and {wanted} are asked for; ask for fewer")
        random.Random(seed).shuffle(made)
        splits = [split for split in SPLITS for _ in range(counts.get(split, 0))]
        return [_item(principle, prompt, split) for (principle, prompt), split in zip(made, splits, strict=False)]

    def annotate(self, prompt: str) -> Axes:
        """The principles whose prompts hold this one."""
        names = tuple(p.name for p in self._principles.values() if prompt in p.prompts)
        return {"principle": names} if names else {}

    def score(self, item: Item, output: str) -> Score:
        """Whether the item's principle is kept, by its detector, which is measured before its first word counts."""
        (name,) = item.axes["principle"]
        principle = self._principles[name]
        if not output.strip():
            return Score(0.0, "none")
        kind = principle.detector.kind
        (found,) = self._measured(principle).judge([Question(principle.says, item.prompt, output)])
        if found.is_met is None:
            return Score(0.0, f"{kind}:no_answer")
        return Score(float(found.is_met), kind)

    def reference(self, item: Item, *, is_right: bool) -> str:
        """A labelled answer that keeps the item's principle, or breaks it: for the check of the scorer."""
        principle = self._principles[item.axes["principle"][0]]
        answers = principle.kept if is_right else principle.broken
        return answers[int(item.item_id, 16) % len(answers)].output

    def rescore(self, item: Item, output: str) -> Score:
        """The same: no second detector is known."""
        return self.score(item, output)

    def verify(self, prompt: str, answer: str) -> bool:
        """Whether the answer keeps every principle that this prompt tempts; False for other prompts."""
        names = self.annotate(prompt).get("principle", ())
        items = [_item(self._principles[name], prompt, "search") for name in names]
        return bool(items) and all(self.score(item, answer).value >= 1 for item in items)

    def precepts(self, conditions: Conditions) -> list[Precept]:
        """The principles of a slice, with their labelled broken answers; none of their prompts."""
        made = [
            Precept(p.name, p.says, _axes(p), broken=tuple(answer.output for answer in p.broken))
            for p in self._principles.values()
        ]
        return [precept for precept in made if matches(precept.axes, conditions)]

    def is_kept(self, precept: str, *, prompt: str, output: str) -> bool | None:
        """What the principle's detector says, once it is measured."""
        principle = self._principles[precept]
        (found,) = self._measured(principle).judge([Question(principle.says, prompt, output)])
        return found.is_met

    def teach(self, conditions: Conditions, *, seed: int) -> Iterator[Example]:
        """Nothing: the prompts of a constitution are evaluation items."""
        return iter(())

    def detectors(self) -> list[Detector]:
        """How far the detector of each principle can be believed; measured anew. Raises as believed_detector."""
        return [believed_detector(principle) for principle in self._principles.values()]

    def _measured(self, principle: Principle) -> Judge:
        if principle.name not in self._detectors:
            self._detectors[principle.name] = measured_detector(principle)
        return self._detectors[principle.name]


def _item(principle: Principle, prompt: str, split: Split) -> Item:
    item_id = hashlib.sha256(f"{principle.name}\0{prompt}".encode()).hexdigest()[:16]
    return Item(item_id, prompt, principle.kept[0].output, split, axes=_axes(principle))


def _axes(principle: Principle) -> Axes:
    return {"principle": (principle.name,), "detector": (principle.detector.kind,)}
