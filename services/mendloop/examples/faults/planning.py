"""From faults to a plan: where each one lies, in which order they are planted, and what its random draws are.

Pure: knows the catalogue and families; knows neither models nor files.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from mendloop.core.errors import InvalidRecipe
from mendloop.core.events import stable_hash
from mendloop.core.tasks import matches
from mendloop.diagnostician.domain.causes import Cause
from mendloop.diagnostician.domain.causes import Family as Side
from mendloop.examples.faults.catalogue import Fault, find_fault
from mendloop.examples.faults.family import Family, Place
from mendloop.examples.faults.plan import ITEM_COUNT, Dose, Plan, healthy_plan

ENOUGH_ITEMS = 30
"""Two samples of fifteen failures where everything fails."""


class Planting(NamedTuple):
    """A fault with its severity."""

    fault: str
    severity: float


@dataclass(frozen=True, slots=True)
class Spec:
    """One case to plant: at most a few faults, in one family, from one seed."""

    family: str
    plantings: tuple[Planting, ...]
    seed: int
    item_count: int = ITEM_COUNT

    def __post_init__(self) -> None:
        for planting in self.plantings:
            find_fault(planting.fault)
            if not 0 < planting.severity <= 1:
                raise InvalidRecipe(f"severity of {planting.fault} is {planting.severity}; it lies above 0, at most 1")
        if not self.plantings:
            raise InvalidRecipe("a case needs a fault; `mend faults list` shows them")

    @property
    def name(self) -> str:
        """Name of its folder."""
        faults = "+".join(f"{one.fault}-{round(100 * one.severity)}" for one in self.plantings)
        return f"{self.family}.{faults}.seed-{self.seed}"


class Planned(NamedTuple):
    """A plan with the faults in it, the healthy one, and what was planted where (JSON values)."""

    plan: Plan
    healthy: Plan
    faults: tuple[Mapping[str, object], ...]
    is_local: bool
    """Whether all faults lie in one slice, so that the rest must stay right."""


def plan_faults(family: Family, spec: Spec) -> Planned:
    """The world of a spec. Raises InvalidRecipe where a fault does not suit the family.

    Faults of a slice come before those of the whole suite. Two that change the same part of the corpus lie in
    different slices; others share one where one suits both.
    """
    faults = sorted(((find_fault(name), severity) for name, severity in spec.plantings), key=lambda one: _order(one[0]))
    healthy = healthy_plan(family, seed=spec.seed, item_count=spec.item_count)
    places = _places(healthy, [fault for fault, _ in faults])
    plan, told = healthy, []
    for (fault, severity), place in zip(faults, places, strict=True):
        rng = random.Random(stable_hash("fault", fault.name, str(spec.seed)))
        plan = fault.plant(plan, Dose(severity, place, rng))
        where = [list(pair) for pair in place.conditions]
        told.append({"name": fault.name, "cause": fault.cause.value, "severity": severity, "conditions": where})
    slices = {tuple(place.conditions) for place in places if place.conditions}
    is_local = all(fault.scope == "slice" for fault, _ in faults)
    return Planned(replace(plan, conditions=_where(slices)), healthy, tuple(told), is_local)


def _order(fault: Fault) -> tuple[bool, bool]:
    """Corpus first, then the training, then the items."""
    return fault.scope == "suite", fault.side is Side.EVALUATION


def _where(slices: set[tuple[tuple[str, str], ...]]) -> tuple[tuple[str, str], ...] | None:
    """The slice of all local faults; the whole set where they lie in several; None where none is local."""
    if not slices:
        return None
    return slices.pop() if len(slices) == 1 else ()


def _places(plan: Plan, faults: Sequence[Fault]) -> list[Place]:
    """A place for each fault, one with enough items where there is one."""
    chosen: list[tuple[Fault, Place]] = []
    for fault in faults:
        known = fault.places(plan.family, seed=plan.seed)
        if not known:
            raise InvalidRecipe(
                f"{fault.name} cannot be planted in family {plan.family.traits.name}: nothing in it suits {fault.cause}"
            )
        ample = [place for place in known if _item_count(plan, place) >= ENOUGH_ITEMS]
        chosen.append((fault, _beside(fault, ample or known, chosen)))
    return [place for _, place in chosen]


def _item_count(plan: Plan, place: Place) -> int:
    return sum(matches(row.axes, place.conditions) for row in plan.items)


def _beside(fault: Fault, known: Sequence[Place], chosen: Sequence[tuple[Fault, Place]]) -> Place:
    """The first place that other faults have too, where they do not touch the same data; else the first free one."""
    local = [(other, place) for other, place in chosen if place.conditions]
    taken = {place.conditions for other, place in local if _clash(fault, other)}
    shared = {place.conditions for _, place in local} - taken
    free = [place for place in known if place.conditions not in taken] or list(known)
    return next((place for place in free if place.conditions in shared), free[0])


def _clash(first: Fault, second: Fault) -> bool:
    return all(fault.side is Side.DATA or fault.cause is Cause.FORGETTING for fault in (first, second))
