"""The budget of a run: reserve before the work, settle with what was metered. Knows amounts; knows not who works.

New examples, training tokens and wall time are always limited; GPU-seconds, teacher tokens and money where the recipe
says so. Of those three nobody knows beforehand how much a round needs: a plan reserves its share of what is left, which
travels with it as the limit of its work, or the need of the last comparable work where that is more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from mendloop.controller.domain.records import Reservation
from mendloop.core.recipe import BudgetSettings, PriceSettings, TrainSettings

NEW_EXAMPLES = "new_examples"
TRAIN_TOKENS = "train_tokens"
WALL_S = "wall_s"
GPU_S = "gpu_s"
TEACHER_TOKENS = "teacher_tokens"
MONEY = "money"
CONTROL_EXAMPLES = "control_examples"
"""New examples of a control arm: as many as the main arm has, so nothing else limits them."""
_ROUNDING = 1e-9
"""A share that is exactly what is left must fit, whatever the last bit of its sum says."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """A budget that does not cover the next piece of work, in the unit of the resource."""

    resource: str
    limit: float
    used: float
    requested: float

    def __str__(self) -> str:
        return f"{self.resource}: {self.requested:g} asked for, {self.used:g} of {self.limit:g} spent or reserved"


class Usage(NamedTuple):
    """Work as prices see it."""

    gpu_s: float = 0.0
    teacher_token_count: float = 0.0

    def money(self, prices: PriceSettings) -> float:
        """What it costs."""
        return self.gpu_s / 3600 * prices.gpu_hour + self.teacher_token_count / 1e6 * prices.teacher_mtokens

    def by_resource(self, prices: PriceSettings) -> dict[str, float]:
        """As the ledger names it."""
        return {GPU_S: self.gpu_s, TEACHER_TOKENS: self.teacher_token_count, MONEY: self.money(prices)}


def token_bound(settings: TrainSettings) -> int:
    """Most tokens that a training can process: every example as long as the cut allows, a preference twice."""
    texts_a_row = 2 if settings.objective == "dpo" else 1
    return settings.steps * settings.batch_size * settings.max_tokens * texts_a_row


def limits(budget: BudgetSettings) -> dict[str, float]:
    """The limits by resource."""
    found: dict[str, float | None] = {
        NEW_EXAMPLES: budget.new_examples,
        TRAIN_TOKENS: budget.train_tokens,
        WALL_S: budget.wall_s,
        GPU_S: budget.gpu_s,
        TEACHER_TOKENS: budget.teacher_tokens,
        MONEY: budget.money,
    }
    return {resource: limit for resource, limit in found.items() if limit is not None}


def spent(ledger: Sequence[Reservation], resource: str) -> float:
    """Used where settled, reserved where not."""
    rows = (row for row in ledger if row.resource == resource)
    return sum(row.used if row.is_settled else row.amount for row in rows)


def examples_of_round(ledger: Sequence[Reservation], budget: BudgetSettings, *, rounds_left: int) -> int:
    """Examples for this round: an equal share, rounded up, of what is left for it and the rounds after it."""
    left = max(0, budget.new_examples - int(spent(ledger, NEW_EXAMPLES)))
    return -(-left // max(1, rounds_left))


def metered_requests(
    ledger: Sequence[Reservation],
    budget: BudgetSettings,
    *,
    need: Usage,
    outside: Usage,
    parts_left: int,
    has_teacher: bool,
) -> dict[str, float]:
    """What a plan asks of GPU-seconds, teacher tokens and money, where they are limited.

    An equal part of what is left for every arm of its round and of those after it, or the need where that is more.
    outside is what was metered outside of plans: the base, and every diagnosis.
    """
    prices, limit_of = budget.prices, limits(budget)
    found = {}
    for resource, needed in need.by_resource(prices).items():
        if resource not in limit_of or (resource == TEACHER_TOKENS and not has_teacher):
            continue
        left = limit_of[resource] - spent(ledger, resource) - outside.by_resource(prices)[resource]
        found[resource] = max(needed, left / max(1, parts_left), 0.0)
    return found


def limits_of_work(requests: Mapping[str, float], prices: PriceSettings, *, need: Usage) -> Usage:
    """How far a plan's work may go: its requests, with money split so that both together never cost more.

    Where both have a price, GPUs get half of the money or their need, whichever is more. 0 stands for no limit.
    """
    gpu_s, tokens = requests.get(GPU_S, 0.0), requests.get(TEACHER_TOKENS, 0.0)
    money = requests.get(MONEY)
    if money is None:
        return Usage(gpu_s, tokens)
    has_both = bool(prices.gpu_hour and prices.teacher_mtokens)
    for_gpus = min(money, max(money / 2, Usage(need.gpu_s).money(prices))) if has_both else money
    for_teacher = money - for_gpus if has_both else money
    affordable = (
        for_gpus / prices.gpu_hour * 3600 if prices.gpu_hour else 0.0,
        for_teacher / prices.teacher_mtokens * 1e6 if prices.teacher_mtokens else 0.0,
    )
    return Usage(_stricter(gpu_s, affordable[0]), _stricter(tokens, affordable[1]))


def _stricter(first: float, second: float) -> float:
    return min(first, second) if first and second else first or second


def shortage(
    ledger: Sequence[Reservation],
    budget: BudgetSettings,
    *,
    requests: Mapping[str, float],
    elapsed_s: float,
    outside: Usage = Usage(),
) -> Shortage | None:
    """The first budget that does not cover the requests, or None. Wall time passes by itself: elapsed_s is spent."""
    limit_of, unplanned = limits(budget), outside.by_resource(budget.prices)
    for resource, requested in sorted(requests.items()):
        used = elapsed_s if resource == WALL_S else spent(ledger, resource) + unplanned.get(resource, 0.0)
        if resource in limit_of and used + requested > limit_of[resource] * (1 + _ROUNDING):
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
