"""Fresh twins: new in every round, never an item, counted where there is none."""

from __future__ import annotations

import pytest
from builders import item

from mendloop.core.records import Axes, Item, fingerprint
from mendloop.core.twins import draw_twins, original_of, twin_id


class Numbers:
    """A family of numbers below a bound; a twin is another number."""

    def __init__(self, bound: int) -> None:
        self._bound = bound

    def annotate(self, prompt: str) -> Axes:
        return {"parity": (str(int(prompt) % 2),)}

    def twin(self, item: Item, *, seed: int) -> Item | None:
        value = str(seed % self._bound)
        return Item(f"n{value}", value, value, item.split)


ITEMS = [item(f"i{n}", prompt=str(n), rule="mine") for n in range(5)]


def test_twins_are_sealed_new_in_each_round_and_have_the_axes_of_their_item() -> None:
    taken = {fingerprint(row.prompt) for row in ITEMS}
    found = draw_twins(Numbers(10_000), ITEMS, rounds=2, seed=0, taken=taken)  # type: ignore[arg-type]  # two methods
    prompts = [twin.prompt for twin in found.items]
    assert len(set(prompts)) == 10
    assert not {fingerprint(prompt) for prompt in prompts} & taken
    assert {twin.split for twin in found.items} == {"sealed"}
    assert found.items[0].axes == ITEMS[0].axes
    assert [original_of(twin.item_id, 2) for twin in found.items[5:]] == [row.item_id for row in ITEMS]


def test_twin_of_another_round_stands_for_nothing_in_this_one() -> None:
    assert original_of(twin_id("i1", 12), 12) == "i1"
    assert original_of(twin_id("i1", 12), 2) is None


def test_items_without_a_new_twin_are_counted() -> None:
    taken = {fingerprint(row.prompt) for row in ITEMS}
    found = draw_twins(Numbers(6), ITEMS, rounds=1, seed=0, taken=taken)  # type: ignore[arg-type]  # two methods
    assert [twin.prompt for twin in found.items] == ["5"]
    assert found.missing_count == 4


def test_family_without_the_hook_is_refused() -> None:
    with pytest.raises(ValueError, match="draws no twins"):
        draw_twins(object(), ITEMS, rounds=1, seed=0, taken=set())  # type: ignore[arg-type]  # no task at all
