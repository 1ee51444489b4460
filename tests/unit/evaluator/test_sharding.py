"""Identity of an evaluation and its shards."""

from __future__ import annotations

from typing import Any

import pytest
from builders import item, recipe

from mendloop.core.recipe import Recipe
from mendloop.evaluator.domain.sharding import batches_of, evaluation_id, shard_of

ITEMS = [item(f"i{n}", prompt="walk " * (1 + n % 7)) for n in range(50)]


def _id(made: Recipe | None = None, **shas: str) -> str:
    values = {"checkpoint_sha": "c", "items_sha": "i", "sealed_sha": "s", **shas}
    return evaluation_id(made or recipe(), **values)


def _suite(**changes: Any) -> Recipe:
    return recipe(suite={**recipe().suite.model_dump(), **changes})


def test_shards_hold_every_item_once_and_differ_by_at_most_one_item() -> None:
    shards = [shard_of(ITEMS, index=index, count=3) for index in range(3)]

    assert sorted(i.item_id for shard in shards for i in shard) == sorted(i.item_id for i in ITEMS)
    assert {len(shard) for shard in shards} == {16, 17}


def test_shards_do_not_depend_on_the_order_of_rows() -> None:
    assert shard_of(ITEMS[::-1], index=1, count=3) == shard_of(ITEMS, index=1, count=3)


def test_shards_cost_alike() -> None:
    lengths = [sum(len(i.prompt) for i in shard_of(ITEMS, index=index, count=2)) for index in range(2)]

    assert max(lengths) / min(lengths) < 1.05


def test_a_shard_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="shard 3 of 3"):
        shard_of(ITEMS, index=3, count=3)


def test_batches_keep_the_order() -> None:
    assert [len(batch) for batch in batches_of(ITEMS, size=20)] == [20, 20, 10]


def test_whatever_changes_an_outcome_changes_the_id() -> None:
    changed = [
        _id(checkpoint_sha="other"),
        _id(items_sha="other"),
        _id(sealed_sha="other"),
        _id(recipe(template="{prompt}")),
        _id(recipe(task="lm-eval")),
        _id(_suite(max_new_tokens=7)),
        _id(_suite(options={"domain": "all"})),
        _id(_suite(backend="vllm")),
        _id(_suite(temperature=0.5)),
        _id(_suite(temperature=0.5, top_p=0.9)),
        _id(_suite(temperature=0.5, repeats=2)),
        _id(_suite(temperature=0.5, seed=1)),
    ]

    assert len({_id(), *changed}) == len(changed) + 1


def test_what_only_changes_the_reading_of_outcomes_keeps_the_id() -> None:
    assert _id(_suite(weak_below=0.5, fdr=0.1, max_depth=1, shards=8)) == _id()
    assert _id(recipe(name="other", seed=3)) == _id()
