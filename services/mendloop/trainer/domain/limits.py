"""Owns how many GPU-seconds a training may take. Knows budgets and plans as numbers; None stands for any number."""

from __future__ import annotations

from mendloop.core.recipe import BudgetSettings


def gpu_s_of_plan(limit_s: float, *, before_s: float = 0.0) -> float | None:
    """What a plan's limit leaves after the work before the training; a limit of 0 limits nothing."""
    return max(0.0, limit_s - before_s) if limit_s else None


def gpu_s_of_run(budget: BudgetSettings) -> float | None:
    """What a run may spend in all, which a base that it trains must not exceed: GPU-seconds, or what its money buys."""
    price = budget.prices.gpu_hour
    bought = None if budget.money is None or not price else budget.money / price * 3600
    limits = [limit for limit in (budget.gpu_s, bought) if limit is not None]
    return min(limits, default=None)
