"""Collection: draws candidates of one source through the funnel, within limits that end every source.

Knows iterators and limits; knows neither teachers nor pools.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from mendloop.core.errors import Retryable
from mendloop.core.records import Example
from mendloop.core.tasks import Conditions
from mendloop.data_generator.domain.ledger import SOURCE, TEACHER, Ledger

CHECK_EVERY = 200


class SourceGaveUp(Retryable):
    """A source cannot go on: it hangs, or it cannot serve the slice. What it gave so far is kept."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Something that a source got where a candidate was wanted, and why it is none. Counted like a dropped one."""

    reason: str


class Source(Protocol):
    """Where candidates for a slice come from."""

    @property
    def name(self) -> str:
        """What an example of it has as its source, e.g. pool or teacher:scan."""

    @property
    def is_curriculum(self) -> bool:
        """Whether its order is chosen to teach: then the first that pass are taken, and no more are asked for."""

    def candidates(self, conditions: Conditions, *, seed: int) -> Iterator[Example | Rejected]:
        """Finite or endless candidates, in an order that the seed fixes. They need not be right, new or in the slice.

        Raises SourceGaveUp where it cannot go on.
        """


@runtime_checkable
class Costly(Protocol):
    """What a source has beside Source where a candidate costs money or seconds: a patience of its own."""

    @property
    def fruitless_limit(self) -> int:
        """Candidates in a row of which none passed, after which it is left."""


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


C = TypeVar("C")


def collect(
    candidates: Iterator[C | Rejected],
    *,
    source: str,
    passed: Callable[[C], C | None],
    limits: Limits,
    ledger: Ledger,
    on_progress: Callable[[int], None],
    check_every: int = CHECK_EVERY,
) -> list[C]:
    """Candidates that pass, in the order of the source; never endless.

    The ledger notes why a source ended early. on_progress gets the count after every check_every candidates, and may
    raise.
    """
    survivors: list[C] = []
    looked_at = last_success = 0
    try:
        for candidate in candidates:
            looked_at += 1
            if isinstance(candidate, Rejected):
                ledger.drop(TEACHER, candidate.reason)
                survivor = None
            else:
                survivor = passed(candidate)
            if survivor is not None:
                survivors.append(survivor)
                last_success = looked_at
            if looked_at % check_every == 0:
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
        rate = f", {kept} passed" if kept else ""
        return f"cut off after {fruitless} candidates in a row of which none passed ({looked_at} looked at){rate}"
    return ""
