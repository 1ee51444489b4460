"""The budget of a run: reserve before the work, settle with what was metered. Knows amounts; knows not who works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mendloop.controller.domain.records import Reservation
from mendloop.core.recipe import BudgetSettings, TrainSettings

NEW_EXAMPLES = "new_examples"
TRAIN_TOKENS = "train_tokens"
WALL_S = "wall_s"


@dataclass(frozen=True, slots=True)
class Shortage:
    """A budget that does not cover the next piece of work, in the unit of the resource."""

    resource: str
    limit: float
    used: float
    requested: float

    def __str__(self) -> str:
        return f"{self.resource}: {self.requested:g} asked for, {self.used:g} of {self.limit:g} spent or reserved"


def token_bound(settings: TrainSettings) -> int:
    """Most tokens that a training can process: every example as long as the cut allows, a preference twice."""
    texts_a_row = 2 if settings.objective == "dpo" else 1
    return settings.steps * settings.batch_size * settings.max_tokens * texts_a_row


def limits(budget: BudgetSettings) -> dict[str, float]:
    """The limits by resource."""
    return {NEW_EXAMPLES: budget.new_examples, TRAIN_TOKENS: budget.train_tokens, WALL_S: budget.wall_s}


def spent(ledger: Sequence[Reservation], resource: str) -> float:
    """Used where settled, reserved where not."""
    rows = (row for row in ledger if row.resource == resource)
    return sum(row.used if row.is_settled else row.amount for row in rows)


def examples_of_round(ledger: Sequence[Reservation], budget: BudgetSettings, *, rounds_left: int) -> int:
    """Examples for this round: an equal share, rounded up, of what is left for it and the rounds after it."""
    left = max(0, budget.new_examples - int(spent(ledger, NEW_EXAMPLES)))
    return -(-left // max(1, rounds_left))


def shortage(
    ledger: Sequence[Reservation], budget: BudgetSettings, *, requests: Mapping[str, float], elapsed_s: float
) -> Shortage | None:
    """The first budget that does not cover the requests, or None. Wall time passes by itself: elapsed_s is spent."""
    limit_of = limits(budget)
    for resource, requested in sorted(requests.items()):
        used = elapsed_s if resource == WALL_S else spent(ledger, resource)
        if used + requested > limit_of[resource]:
            return Shortage(resource, limit_of[resource], used, requested)
    return None


def reserve(plan_id: str, requests: Mapping[str, float]) -> tuple[Reservation, ...]:
    """The ledger rows of a plan."""
    return tuple(Reservation(plan_id, resource, amount) for resource, amount in sorted(requests.items()))


def settle(ledger: Sequence[Reservation], plan_id: str, *, metered: Mapping[str, float]) -> tuple[Reservation, ...]:
    """The ledger with metered figures in place of a plan's reservations; what was not metered is released."""
    rows = []
    for row in ledger:
        if row.plan_id == plan_id and not row.is_settled:
            row = replace(row, used=metered.get(row.resource, 0.0), is_settled=True)
        rows.append(row)
    return tuple(rows)
