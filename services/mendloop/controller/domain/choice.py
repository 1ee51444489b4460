"""Chooses a round's intervention from its verdicts. Knows causes; knows neither budgets nor trainings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mendloop.controller.domain.records import Diagnosis, Kind

ORDER = (Kind.EVALUATION_FIX, Kind.TRAINING_FIX, Kind.DATA)
"""A wrong score makes every later decision wrong, a wrong training setting spoils new data: so in this order."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do and the verdicts that ask for it."""

    kind: Kind
    verdicts: tuple[Diagnosis, ...]
    fixes: tuple[tuple[str, str], ...]
    """(setting, value as JSON), sorted; empty for data."""


def choose(verdicts: Sequence[Diagnosis]) -> Choice | None:
    """The first kind in ORDER that a verdict asks for, or None where every verdict abstains.

    A training fix is judged on all failing slices, so it takes all verdicts; the others take their own.
    """
    for kind in ORDER:
        asking = [verdict for verdict in verdicts if _asks_for(verdict) is kind]
        if not asking:
            continue
        taken = list(verdicts) if kind is Kind.TRAINING_FIX else asking
        return Choice(kind, tuple(taken), _fixes(asking) if kind is not Kind.DATA else ())
    return None


def _asks_for(verdict: Diagnosis) -> Kind:
    """A fix that names no setting cannot be carried out: the verdict counts as abstaining."""
    if verdict.kind in (Kind.TRAINING_FIX, Kind.EVALUATION_FIX) and not verdict.fixes:
        return Kind.NONE
    return verdict.kind


def _fixes(verdicts: Sequence[Diagnosis]) -> tuple[tuple[str, str], ...]:
    """One value a setting: where verdicts differ, the one with the greatest failure mass times confidence."""
    weight: dict[tuple[str, str], float] = {}
    for verdict in sorted(verdicts, key=lambda verdict: verdict.slice_id):
        for fix in verdict.fixes:
            weight[fix] = weight.get(fix, 0.0) + verdict.failed_count * verdict.confidence
    best: dict[str, str] = {}
    for setting, value in sorted(weight, key=lambda fix: (-weight[fix], fix)):
        best.setdefault(setting, value)
    return tuple(sorted(best.items()))
