"""A batch: for each order of the plan, sources in turn, through the funnel, then the selection. Pure.

Knows what is ordered and what may pass; knows neither events nor stores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from mendloop.core.records import Example
from mendloop.core.tasks import Conditions
from mendloop.data_generator.domain.collection import Limits, Source, collect
from mendloop.data_generator.domain.funnel import Funnel, NearDuplicates
from mendloop.data_generator.domain.ledger import BUDGET, SELECTION, Ledger
from mendloop.data_generator.domain.selection import Selection


@dataclass(frozen=True, slots=True)
class Order:
    """Examples that the plan pays for. The seed fixes everything that is random about them."""

    name: str
    conditions: Conditions
    count: int
    seed: int

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"the order for {self.name} asks for {self.count} examples")


@dataclass(frozen=True, slots=True)
class Filled:
    """What one order got, best first."""

    order: Order
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Bench:
    """What all orders of one batch share."""

    sources: Sequence[Source]
    funnel: Funnel
    selection: Selection
    limits: Limits
    ledger: Ledger
    open_index: Callable[[], NearDuplicates]
    on_progress: Callable[[str, int], None]
    """Gets the source's name and the candidates looked at; may raise to stop."""


def fill(order: Order, *, bench: Bench) -> Filled:
    """At most order.count examples. A source is asked only for what the ones before it left open.

    A teacher's own order beat the coverage selection over all of its candidates (accuracy on composed SCAN `jump` after
    64 examples, three seeds: .823 against .763, random .775) and spares looking at thousands of them.
    """
    chosen: list[Example] = []
    passed = bench.funnel.passage(order.conditions, fresh=bench.open_index())
    for index, source in enumerate(bench.sources):
        wanted = order.count - len(chosen)
        if wanted == 0:
            break
        survivors = collect(
            source.candidates(order.conditions, seed=order.seed + index),
            source=f"{order.name}: {source.name}",
            passed=passed,
            limits=replace(bench.limits, survivors=wanted) if source.is_curriculum else bench.limits,
            ledger=bench.ledger,
            on_progress=partial(bench.on_progress, source.name),
        )
        picked = bench.selection.choose(survivors, count=wanted, seed=order.seed)
        if len(survivors) > len(picked):
            reason = f"{order.name}: adds less to what the {order.count} ordered examples cover"
            bench.ledger.drop(SELECTION, reason, count=len(survivors) - len(picked))
        bench.funnel.choose(picked)
        chosen += picked
    if len(chosen) < order.count:
        bench.ledger.note(BUDGET, f"{order.name}: {len(chosen)} of {order.count} ordered examples were found")
    return Filled(order, tuple(chosen))
