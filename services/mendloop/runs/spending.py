"""What a run has spent of each resource that its recipe limits. Pure: a view in, amounts out.

Candidates count, the base training does not, as in the controller's ledger. GPU-seconds, teacher tokens and money count
all metered work. What is only reserved is not spent.
"""

from __future__ import annotations

from datetime import datetime

from mendloop.runs.model import RunView
from mendloop.runs.parts import RecipeFacts
from mendloop.runs.values import Cost


def limits(recipe: RecipeFacts | None) -> dict[str, float]:
    """The run's limits by resource; only what it limits, and nothing where the recipe was not read."""
    if recipe is None:
        return {}
    found = {
        "new_examples": recipe.new_examples,
        "train_tokens": recipe.train_tokens,
        "wall_s": recipe.wall_s,
        "gpu_s": recipe.gpu_s,
        "teacher_tokens": recipe.teacher_tokens,
        "money": recipe.money,
    }
    return {resource: float(limit) for resource, limit in found.items() if limit}


def spent(view: RunView, *, now: datetime) -> dict[str, float]:
    """What the run has spent of what it limits, by resource."""
    candidates = [part for part in view.rounds if part.number > 0]
    gpu_s = view.cost.gpu_s
    teacher_tokens = float(sum(part.batch.cost.token_count for part in view.rounds if part.batch))
    started, ended = view.started_at, view.finished_at or now
    amounts = {
        "new_examples": float(sum(part.added_count for part in candidates)),
        "train_tokens": float(sum(part.ready.cost.token_count for part in candidates if part.ready)),
        "wall_s": max(0.0, (ended - started).total_seconds()) if started else 0.0,
        "gpu_s": gpu_s,
        "teacher_tokens": teacher_tokens,
        "money": money(view.recipe, Cost(gpu_s=gpu_s), teacher_token_count=teacher_tokens),
    }
    return {resource: amounts[resource] for resource in limits(view.recipe)}


def money(recipe: RecipeFacts | None, cost: Cost, *, teacher_token_count: float) -> float:
    """What work costs at the prices of the recipe."""
    if recipe is None:
        return 0.0
    return cost.gpu_s / 3600 * recipe.gpu_hour_price + teacher_token_count / 1e6 * recipe.teacher_mtokens_price
