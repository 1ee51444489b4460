"""SCAN as a task family: corpus, items, scorers, verifier and programmatic teacher. Knows no model and imports none."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import cast

from mendloop.core.records import Axes, Example, Item, Score, Split
from mendloop.core.tasks import Conditions, Options, matches
from mendloop.examples.scan.axes import Command, annotate, annotated_commands, phrases
from mendloop.examples.scan.grammar import interpret, is_composed
from mendloop.examples.scan.options import CorpusOptions, PoolOptions, SuiteOptions, withheld_primitive
from mendloop.examples.scan.selection import draw_items, spread
from mendloop.examples.scan.wording import glossary, in_usual_words
from mendloop.steps.scan import END, ScanChecker, operations
from mendloop.steps.supervision import supervise


class ScanTask:
    """The Task of SCAN (Lake & Baroni 2018). Options of the suite: domain, split (see SuiteOptions)."""

    stop_strings: tuple[str, ...] = ()

    def __init__(self, options: Options) -> None:
        self._options = SuiteOptions.of(options)

    def corpus(self, options: Options) -> list[Example]:
        """The training part of a split, each pair once.

        The published add-primitive files repeat the bare primitive up to a tenth of the training; repeat_primitive
        does that here.
        """
        chosen = CorpusOptions.of(options)
        primitive = withheld_primitive(chosen.split)
        commands = _training_part(chosen.split)
        extra = [command for command in commands if command.command == primitive] * (chosen.repeat_primitive - 1)
        return [_example(command, source="corpus") for command in [*commands, *extra]]

    def pool(self, options: Options) -> list[Example]:
        """A random share of the grammar, in random order."""
        chosen = PoolOptions.of(options)
        primitive = withheld_primitive(chosen.outside)
        commands = [c for c in annotated_commands() if not primitive or is_composed(c.command, primitive=primitive)]
        count = max(1, round(chosen.share * len(commands)))
        return [_example(command, source="pool") for command in random.Random(chosen.seed).sample(commands, count)]

    def items(self, *, counts: Mapping[str, int], seed: int) -> list[Item]:
        """Disjoint items; see draw_items. Raises InvalidRecipe where the domain has too few commands."""
        is_whole = self._options.domain == "all"
        commands = annotated_commands() if is_whole else tuple(_training_part(self._options.split))
        return [
            _item(command, split=cast(Split, split))
            for split, drawn in draw_items(commands, counts=counts, seed=seed).items()
            for command in drawn
        ]

    def annotate(self, prompt: str) -> Axes:
        """Axis values of a command; empty where the prompt is none."""
        return annotate(prompt)

    def score(self, item: Item, output: str) -> Score:
        """Whether the output is the target, white space aside; where it is not, the first wrong action and the word of
        the command that asks for it."""
        if output.split() == item.target.split():
            return Score(1.0, "exact")
        try:
            wrong = supervise(item.prompt, output, checkers=[ScanChecker()]).first_wrong
        except ValueError:
            return Score(0.0, "none")  # the prompt is no command: there is nothing to say about its steps
        if wrong is None:
            return Score(0.0, "none")
        return Score(0.0, "none", first_wrong_step=wrong.step.index, wrong_operation=wrong.operation)

    def rescore(self, item: Item, output: str) -> Score:
        """Whether the output's actions are, or begin with, the target's; other text and case are ignored.

        The extraction tells which: "exact", "actions" (all of them, among other text or in other case) or "prefix"
        (more actions follow). A prefix is weak evidence: "turn left" begins the answer of "turn left twice".
        """
        strict = self.score(item, output)
        if strict.value == 1.0:
            return strict
        target = item.target.upper().split()
        actions = [word for word in output.upper().split() if word.startswith("I_")]
        if actions[: len(target)] != target:
            return Score(0.0, "none")
        return Score(1.0, "actions" if len(actions) == len(target) else "prefix")

    def verify(self, prompt: str, answer: str) -> bool:
        """Whether the interpreter gives this answer; False for what is no command."""
        try:
            return interpret(prompt).split() == answer.split()
        except ValueError:
            return False

    def answer(self, prompt: str) -> str:
        """The actions of a command; empty for what is none."""
        try:
            return interpret(prompt)
        except ValueError:
            return ""

    def teach(self, conditions: Conditions, *, seed: int) -> Iterator[Example]:
        """Every command of the grammar that satisfies the conditions, once, in a spread order; see spread."""
        fitting = [command for command in annotated_commands() if matches(command.axes, conditions)]
        for command in spread(fitting, seed=seed):
            yield _example(command, source="teacher:scan-grammar")

    def rewordings(self, prompt: str) -> Sequence[str]:
        """The command in the grammar's own words, where it has synonyms of them."""
        usual = in_usual_words(prompt)
        return (usual,) if usual != " ".join(prompt.split()) and annotate(usual) else ()

    def worked_steps(self, item: Item) -> Sequence[str]:
        """The actions of each phrase, in the order in which they are done; empty where the prompt is no command."""
        if not annotate(item.prompt):
            return ()
        parts, conjunction = phrases(item.prompt)
        texts = [interpret(part) for part in (parts[::-1] if conjunction == "after" else parts)]
        return (*(f"{text} " for text in texts[:-1]), texts[-1])

    def operations(self, prompt: str) -> Sequence[str]:
        """The word that asks for each action, then the end; empty where the prompt is no command."""
        return (*operations(prompt), END) if annotate(prompt) else ()

    def background(self, item: Item) -> str:
        """What each word of the command means."""
        return glossary(item.prompt)

    def twin(self, item: Item, *, seed: int) -> Item | None:
        """Another command with the same values on every axis, in whatever order; it may be a training example."""
        alike = [c for c in _by_values().get(_values(item.axes), ()) if c.command != item.prompt]
        return _item(random.Random(f"twin/{seed}/{item.item_id}").choice(alike), split=item.split) if alike else None


def _values(axes: Axes) -> frozenset[tuple[str, frozenset[str]]]:
    return frozenset((axis, frozenset(values)) for axis, values in axes.items())


@cache
def _by_values() -> dict[frozenset[tuple[str, frozenset[str]]], list[Command]]:
    """The commands of the grammar by their axes: a suite asks for the twins of hundreds."""
    found: dict[frozenset[tuple[str, frozenset[str]]], list[Command]] = {}
    for command in annotated_commands():
        found.setdefault(_values(command.axes), []).append(command)
    return found


def _training_part(split: str) -> list[Command]:
    primitive = withheld_primitive(split)
    return [c for c in annotated_commands() if not primitive or not is_composed(c.command, primitive=primitive)]


def _example(command: Command, *, source: str) -> Example:
    return Example(command.command, command.actions, source, axes=command.axes)


def _item(command: Command, *, split: Split) -> Item:
    item_id = hashlib.sha256(f"scan/{command.command}".encode()).hexdigest()[:16]
    return Item(item_id, command.command, command.actions, split, axes=command.axes)
