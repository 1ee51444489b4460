"""The funnel: which candidates may become training data, and for each other one the stage and reason.

Knows examples and a task's checks; knows neither where candidates come from nor how many are wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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


class Check(Protocol):
    """A check that costs seconds or money: it is asked last, about what passed everything else."""

    @property
    def stage(self) -> str:
        """The ledger's stage for what it drops; VERIFICATION where it stands in for a program that verifies."""

    def objection(self, example: Example) -> str:
        """Why the example may not pass; empty where it may. Raises SourceGaveUp where nobody answers."""


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
    checks: tuple[Check, ...] = ()
    operations: Callable[[str], Sequence[str]] | None = None
    """The operations of a right answer to a prompt; None where the task cannot tell."""

    @property
    def trusts_checks(self) -> bool:
        """Whether a check verifies, as no program can."""
        return not self.can_verify and any(check.stage == stages.VERIFICATION for check in self.checks)


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

    @property
    def knows_operations(self) -> bool:
        """Whether the task says which operations an answer takes."""
        return self._rules.operations is not None

    def passage(
        self,
        conditions: Conditions,
        *,
        fresh: NearDuplicates,
        operation: str = "",
        checks: Sequence[Check] = (),
    ) -> Callable[[Example], Example | None]:
        """A function that lets an example of a slice pass, with its axes, or drops it; fresh must be empty.

        operation: what a step of its answer must do, where one is given and the task can tell. checks: asked last,
        after those of the rules.
        """
        seen: set[str] = set()

        def passed(candidate: Example) -> Example | None:
            mark = fingerprint(candidate.prompt)
            stage, reason, axes = self._judge(candidate, mark=mark, seen=seen, fresh=fresh, conditions=conditions)
            if not stage and operation and not self._exercises(candidate, operation):
                stage, reason = stages.SLICE, f"no step of its answer exercises {operation!r}"
            if not stage:
                stage, reason = _objection(candidate, (*self._rules.checks, *checks))
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

    def _exercises(self, candidate: Example, operation: str) -> bool:
        try:
            return self._rules.operations is None or operation in self._rules.operations(candidate.prompt)
        except GARBAGE_ERRORS:
            return False

    def _unverified(self, candidate: Example) -> str:
        if self._rules.trusts_checks:
            return ""
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


def _objection(candidate: Example, checks: Iterable[Check]) -> tuple[str, str]:
    for check in checks:
        reason = check.objection(candidate)
        if reason:
            return check.stage, reason
    return "", ""
