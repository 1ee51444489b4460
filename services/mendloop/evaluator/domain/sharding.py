"""Owns the identity of an evaluation and how its items are cut into shards. Knows neither models nor stores."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mendloop.core.events import stable_hash
from mendloop.core.recipe import Recipe
from mendloop.core.records import Item

OUTCOME_SETTINGS = ("max_new_tokens", "options", "backend", "temperature", "top_p", "repeats", "seed")
"""Suite settings that change an outcome; the others only change what is made of it."""


def evaluation_id(recipe: Recipe, *, checkpoint_sha: str, items_sha: str, sealed_sha: str) -> str:
    """The same checkpoint measured on the same items in the same way has the same id, in every run."""
    settings = recipe.suite.model_dump(mode="json", include=set(OUTCOME_SETTINGS))
    return stable_hash(
        "evaluation",
        checkpoint_sha,
        items_sha,
        sealed_sha,
        recipe.template,
        recipe.task,
        json.dumps(settings, sort_keys=True),
    )[:32]


def shard_of(items: Sequence[Item], *, index: int, count: int) -> list[Item]:
    """The items of shard `index` of `count`, short prompts first.

    Items are dealt out in order of prompt length, so that shards cost alike and the prompts of a batch need little
    padding. The same items give the same shards in any row order.
    """
    if not 0 <= index < count:
        raise ValueError(f"shard {index} of {count} does not exist")
    return sorted(items, key=lambda item: (len(item.prompt), item.item_id))[index::count]


def batches_of(items: Sequence[Item], *, size: int) -> list[Sequence[Item]]:
    """The items in consecutive batches of at most `size`."""
    return [items[start : start + size] for start in range(0, len(items), size)]
