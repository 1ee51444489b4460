"""The funnel: which candidates may become training data, and for each other one the stage and reason.

Knows examples and a task's checks; knows neither where candidates come from nor how many are wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from mendloop.core.records import Axes, Example, fingerprint
from mendloop.core.tasks import Conditions, matches
from mendloop.data_generator.domain import ledger as stages
from mendloop.data_generator.domain.ledger import Ledger

GARBAGE_ERRORS = (ValueError, LookupError, ArithmeticError)
"""What a parser raises on a text that is not of its family. Anything else is a fault of the task and propagates."""


class NearDuplicates(Protocol):
    """An index of examples by similarity of their texts."""

    def add(self, examples: Iterable[Example]) -> None:
        """Remember examples."""

    def holds_like(self, example: Example) -> bool:
        """Whether the index holds an example that says almost the same and has the same answer."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the funnel knows of a run. held_out are fingerprints of every evaluation item, sealed ones included."""

    verify: Callable[[str, str], bool]
    annotate: Callable[[str], Axes]
    held_out: frozenset[str]
    in_corpus: frozenset[str]
    can_verify: bool = True
    """Whether the verifier confirmed anything of the corpus; only words the reason of a drop."""
    holds_item: Callable[[Example], bool] = lambda example: False
    """Whether an example holds the words of an evaluation item, where the recipe looks for them."""


class Funnel:
    """The funnel of one batch: what is chosen for one slice is a duplicate for the next."""

    def __init__(self, rules: Rules, *, known: NearDuplicates, ledger: Ledger) -> None:
        self._rules, self._known, self._ledger = rules, known, ledger
        self._chosen: set[str] = set()

    def choose(self, examples: Iterable[Example]) -> None:
        """These examples are in the batch now."""
        kept = list(examples)
        self._chosen.update(fingerprint(example.prompt) for example in kept)
        self._known.add(kept)

    def passage(self, conditions: Conditions, *, fresh: NearDuplicates) -> Callable[[Example], Example | None]:
        """A function that lets an example of a slice pass, with its axes, or drops it; fresh must be empty."""
        seen: set[str] = set()

        def passed(candidate: Example) -> Example | None:
            mark = fingerprint(candidate.prompt)
            stage, reason, axes = self._judge(candidate, mark=mark, seen=seen, fresh=fresh, conditions=conditions)
            if stage:
                self._ledger.drop(stage, reason)
                return None
            survivor = replace(candidate, axes=axes)
            seen.add(mark)
            fresh.add([survivor])
            return survivor

        return passed

    def _judge(
        self, candidate: Example, *, mark: str, seen: set[str], fresh: NearDuplicates, conditions: Conditions
    ) -> tuple[str, str, Axes]:
        unverified = self._unverified(candidate)
        if unverified:
            return stages.VERIFICATION, unverified, {}
        if mark in self._rules.in_corpus:
            return stages.DUPLICATE, "its prompt is in the corpus", {}
        if mark in self._chosen or mark in seen:
            return stages.DUPLICATE, "its prompt is in the batch or among its candidates", {}
        if self._known.holds_like(candidate):
            return stages.NEAR_DUPLICATE, "almost an example of the corpus or the batch, same answer", {}
        if fresh.holds_like(candidate):
            return stages.NEAR_DUPLICATE, "almost another candidate, same answer", {}
        if mark in self._rules.held_out:
            return stages.DECONTAMINATION, "its prompt is an evaluation item", {}
        if self._rules.holds_item(candidate):
            return stages.DECONTAMINATION, "it holds the words of an evaluation item", {}
        return self._placed(candidate, conditions=conditions)

    def _unverified(self, candidate: Example) -> str:
        try:
            confirmed = self._rules.verify(candidate.prompt, candidate.completion)
        except GARBAGE_ERRORS as error:
            return f"the verifier cannot read it ({type(error).__name__})"
        if confirmed:
            return ""
        if not self._rules.can_verify:
            return "no program can verify answers of this task: it confirms none of the corpus either"
        return "the verifier does not confirm the answer"

    def _placed(self, candidate: Example, *, conditions: Conditions) -> tuple[str, str, Axes]:
        try:
            axes = self._rules.annotate(candidate.prompt)
        except GARBAGE_ERRORS as error:
            return stages.SLICE, f"its axes cannot be read ({type(error).__name__})", {}
        if not matches(axes, conditions):
            return stages.SLICE, "outside the slice", {}
        return "", "", axes
