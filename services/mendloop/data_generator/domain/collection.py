"""Collection: draws candidates of one source through the funnel, within limits that end every source.

Knows iterators and limits; knows neither teachers nor pools.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from mendloop.core.errors import Retryable
from mendloop.core.records import Example
from mendloop.core.tasks import Conditions
from mendloop.data_generator.domain.ledger import SOURCE, Ledger

CHECK_EVERY = 200


class SourceGaveUp(Retryable):
    """A source cannot go on: it hangs, or it cannot serve the slice. What it gave so far is kept."""


class Source(Protocol):
    """Where candidates for a slice come from."""

    @property
    def name(self) -> str:
        """What an example of it has as its source, e.g. pool or teacher:scan."""

    @property
    def is_curriculum(self) -> bool:
        """Whether its order is chosen to teach: then the first that pass are taken, and no more are asked for."""

    def candidates(self, conditions: Conditions, *, seed: int) -> Iterator[Example]:
        """Finite or endless candidates, in an order that the seed fixes. They need not be right, new or in the slice.

        Raises SourceGaveUp where it cannot go on.
        """


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a source is cut off, for one slice. Whichever comes first ends it."""

    candidates: int = 50_000
    """Candidates looked at."""
    survivors: int = 20_000
    """Candidates that passed the funnel, among which the selection chooses."""
    fruitless: int = 5_000
    """Candidates in a row of which none passed: the retry cap."""

    def __post_init__(self) -> None:
        for name in ("candidates", "survivors", "fruitless"):
            if getattr(self, name) < 1:
                raise ValueError(f"limits.{name} is {getattr(self, name)}; it must be at least 1")


def collect(
    candidates: Iterator[Example],
    *,
    source: str,
    passed: Callable[[Example], Example | None],
    limits: Limits,
    ledger: Ledger,
    on_progress: Callable[[int], None],
) -> list[Example]:
    """Candidates that pass, in the order of the source; never endless.

    The ledger notes why a source ended early. on_progress gets the count so far now and then, and may raise.
    """
    survivors: list[Example] = []
    looked_at = last_success = 0
    try:
        for candidate in candidates:
            looked_at += 1
            survivor = passed(candidate)
            if survivor is not None:
                survivors.append(survivor)
                last_success = looked_at
            if looked_at % CHECK_EVERY == 0:
                on_progress(looked_at)
            cut = _cut(limits, looked_at=looked_at, kept=len(survivors), fruitless=looked_at - last_success)
            if cut:
                ledger.note(SOURCE, f"{source}: {cut}")
                return survivors
    except SourceGaveUp as error:
        ledger.note(SOURCE, f"{source}: gave up after {looked_at} candidates: {error}")
        return survivors
    ledger.note(SOURCE, f"{source}: ended after {looked_at} candidates, {len(survivors)} passed")
    return survivors


def _cut(limits: Limits, *, looked_at: int, kept: int, fruitless: int) -> str:
    if kept >= limits.survivors:
        return f"cut off at {kept} that passed, of {looked_at} looked at"
    if looked_at >= limits.candidates:
        return f"cut off at {looked_at} candidates looked at, {kept} passed"
    if fruitless >= limits.fruitless:
        return f"cut off after {fruitless} candidates in a row of which none passed ({looked_at} looked at)"
    return ""
