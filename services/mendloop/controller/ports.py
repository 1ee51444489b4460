"""What the controller asks of the outside: a run's state in one transaction, and outcome tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from mendloop.artifacts.store import Artifact
from mendloop.bus.runtime import Emit
from mendloop.controller.domain.pairs import Result
from mendloop.controller.domain.records import RunState


class Elsewhere(Protocol):
    """What a run may know of others, inside its own transaction."""

    def sealed_answers(self, suite: str) -> Sequence[bool]:
        """What other runs were told by a set of sealed items: whether each answer was anything but "no gain".

        Until the transaction ends no other run asks the same items.
        """


Change = Callable[[RunState, Elsewhere], tuple[RunState, Sequence[Emit]]]
"""What an event does to a run, and what follows from it."""


class Runs(Protocol):
    """The state of all runs."""

    def apply(self, run_id: str, *, event_id: str, event_type: str, now: float, change: Change) -> list[Emit]:
        """Change a run and keep the outputs under the event's id, in one transaction, one event of a run at a time.

        An event that was applied before gives its stored outputs and changes nothing. Raises Retryable where the
        database is busy or away; then nothing was changed.
        """


class Outcomes(Protocol):
    """Outcome tables of evaluations."""

    def results(self, artifact: Artifact) -> Sequence[Result]:
        """Right or wrong by item. Raises CorruptArtifact where the table cannot be read."""
