"""The port of a probe, and the sequence: one chosen probe after the other, until the verdict is clear.

Knows no probe by name; who chooses and who says that it is clear is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Protocol

from mendloop.core.errors import CorruptArtifact, Permanent
from mendloop.diagnostician.domain.case import Case
from mendloop.diagnostician.domain.evidence import Cost, Evidence, exact, missing
from mendloop.diagnostician.domain.metering import MeteredModel, metered

SAMPLING = "sampling"
FAILED_COUNT = "failed_count"


class CostClass(IntEnum):
    """What a probe needs; the order in which probes run."""

    STORED = 0
    """Stored outputs, corpus, report: milliseconds."""
    SCORED = 1
    """Teacher-forced passes over a sample."""
    GENERATED = 2
    """Generation of a sample."""
    SEARCHED = 3
    """Work inside the model or over much of the corpus: patching, attribution."""


class Probe(Protocol):
    """One counterfactual question about a case. A probe that cannot run says so with n = 0; it does not raise."""

    @property
    def name(self) -> str:
        """Name, as it stands in the evidence."""

    @property
    def cost_class(self) -> CostClass:
        """When it runs."""

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """Measure both samples of the case."""


IsClear = Callable[[Sequence[Evidence]], bool]
"""Whether further probes are not needed."""
Choose = Callable[[Sequence[Evidence], Sequence[Probe]], Probe]
"""Which of the waiting probes runs next."""


def cheapest(evidence: Sequence[Evidence], waiting: Sequence[Probe]) -> Probe:
    """The first of the cheapest class: what is chosen where nothing is known of what probes bring."""
    return min(waiting, key=lambda probe: probe.cost_class)


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that was measured, what it cost, and which probes were not needed."""

    evidence: tuple[Evidence, ...]
    cost: Cost
    skipped: tuple[str, ...]


def investigate(
    case: Case,
    probes: Sequence[Probe],
    *,
    is_clear: IsClear,
    clock: Callable[[], float],
    choose: Choose = cheapest,
    before_probe: Callable[[], None] = lambda: None,
) -> Findings:
    """Run the probe that is chosen until the evidence is clear; each one's cost stands on its first row.

    before_probe may raise to give the work back.
    """
    model, earlier = metered(case.model), metered(case.earlier)
    case = replace(case, model=model, earlier=earlier)
    rows, total = [_sampling(case)], Cost()
    waiting = sorted(probes, key=lambda probe: probe.cost_class)
    while waiting and not is_clear(rows):
        before_probe()
        probe = choose(rows, waiting)
        waiting.remove(probe)
        started, tokens = clock(), _tokens(model, earlier)
        measured = _run(probe, case)
        cost = Cost(clock() - started, _tokens(model, earlier) - tokens)
        rows += [replace(row, cost=cost if at == 0 else Cost()) for at, row in enumerate(measured)]
        total += cost
    return Findings(tuple(rows), total, tuple(probe.name for probe in waiting))


def _tokens(*models: MeteredModel | None) -> int:
    return sum(model.token_count for model in models if model)


def _run(probe: Probe, case: Case) -> tuple[Evidence, ...]:
    """The probe's rows; where the model refuses (a prompt too long for its context) that is evidence with n = 0."""
    try:
        return probe.run(case)
    except CorruptArtifact:
        raise
    except Permanent as error:
        return (missing(probe.name, "run", reading=f"The probe could not run: {error}"),)


def _sampling(case: Case) -> Evidence:
    sizes = " and ".join(f"{len(sample.failed)} ({sample.name})" for sample in case.samples)
    reading = f"{case.failed_count} items of the slice failed; two disjoint samples: {sizes}; seed {case.seed}."
    return exact(SAMPLING, FAILED_COUNT, case.failed_count, max(1, case.failed_count), reading=reading)
