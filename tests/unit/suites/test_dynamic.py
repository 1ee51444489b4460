"""Drawn suites: the seed decides everything, another draw gives other items, the fold keeps draws apart."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from mendloop.core.errors import InvalidRecipe
from mendloop.core.records import fingerprint
from mendloop.core.tasks import Options, Task, find_task, matches
from mendloop.evaluator.domain.health import check_scorer
from mendloop.suites.dynamic import Question, suite
from mendloop.suites.scan_fresh import scan_fresh

COUNTS = {"search": 40, "confirm": 20, "sealed": 20}


@suite(stop=("\n",))
def sums(options: Options, rng: random.Random) -> Iterator[Question]:
    """Sums of two numbers below options.most."""
    most = int(str(options.get("most", 100)))
    while True:
        a, b = rng.randrange(most), rng.randrange(most)
        yield Question(f"{a} + {b} =", str(a + b), axes={"carry": (str(a % 10 + b % 10 > 9),)})


def _ids(task: Task, *, seed: int = 0) -> set[str]:
    return {item.item_id for item in task.items(counts=COUNTS, seed=seed)}


def test_the_decorated_function_is_a_task_family() -> None:
    task = sums({})

    items = task.items(counts=COUNTS, seed=0)

    assert [item.split for item in items] == ["search"] * 40 + ["confirm"] * 20 + ["sealed"] * 20
    assert len({fingerprint(item.prompt) for item in items}) == 80
    assert items == sums({}).items(counts=COUNTS, seed=0)
    assert task.stop_strings == ("\n",)
    assert task.score(items[0], f" {items[0].target} ").value == 1.0
    assert task.rescore(items[0], f"So the answer is {items[0].target}.").extraction == "after_marker"
    assert check_scorer(task, items).is_sound


@pytest.mark.parametrize("family", [sums, scan_fresh])
def test_draws_of_different_folds_share_no_item(family: Any) -> None:
    drawn = [_ids(family({"draw": draw, "folds": 4})) for draw in range(4)]

    assert sum(map(len, drawn)) == len(set.union(*drawn)) == 320


def test_another_draw_and_another_seed_give_other_items() -> None:
    assert len(_ids(sums({})) & _ids(sums({"draw": 1}))) < 8
    assert len(_ids(sums({})) & _ids(sums({}), seed=1)) < 8


def test_corpus_pool_and_teacher_draw_from_generators_of_their_own() -> None:
    task = sums({})

    corpus, pool = (make({"count": 50, "seed": 0}) for make in (task.corpus, task.pool))
    taught = next(iter(task.teach((("carry", "True"),), seed=0)))

    assert len(corpus) == len(pool) == 50
    assert {one.prompt for one in corpus} != {one.prompt for one in pool}
    assert taught.axes == {"carry": ("True",)}
    assert task.verify(taught.prompt, taught.completion)
    assert not task.verify(taught.prompt, "no number")
    assert not task.verify("never drawn", "1")


def test_an_exhausted_generator_is_said() -> None:
    with pytest.raises(InvalidRecipe, match="has 25 different questions of draw 0"):
        sums({"most": 5}).items(counts=COUNTS, seed=0)


@pytest.mark.parametrize("options", [{"folds": 0}, {"draw": "x"}])
def test_wrong_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InvalidRecipe, match="drawn suite"):
        sums(options)


class TestReasoningGym:
    """Generators of the package, where it is installed."""

    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed (extra reasoning-gym)")

    def _task(self, name: str, **options: Any) -> Task:
        from mendloop.suites.reasoning_gym import reasoning_gym_task

        return reasoning_gym_task({"dataset": name, **options})

    @pytest.mark.parametrize("name", ["chain_sum", "spell_backward", "leg_counting"])
    def test_targets_get_full_score_and_others_do_not(self, name: str) -> None:
        task = self._task(name)

        health = check_scorer(task, task.items(counts=COUNTS, seed=0))

        assert health.is_sound, health.faults[:3]

    def test_near_seeds_share_hardly_an_item_and_folds_none(self) -> None:
        near = [_ids(self._task("chain_sum"), seed=seed) for seed in (0, 1)]
        apart = [_ids(self._task("chain_sum", draw=draw, folds=2)) for draw in (0, 1)]

        assert len(near[0] & near[1]) <= 2
        assert not apart[0] & apart[1]

    def test_the_last_answer_tag_is_scored(self) -> None:
        task = self._task("chain_sum")
        (one, *_) = task.items(counts=COUNTS, seed=0)

        assert task.score(one, f"<answer>no</answer> <answer> {one.target} </answer>").extraction == "answer_tag"
        assert task.score(one, f"<answer>{one.target}</answer>").value == 1.0
        assert task.score(one, "<answer></answer>").value == 0.0

    def test_items_are_scored_without_the_generators_state(self) -> None:
        (one, *_) = self._task("chain_sum").items(counts=COUNTS, seed=0)

        assert self._task("chain_sum").score(one, one.target).value == 1.0

    @pytest.mark.parametrize(
        "options",
        [
            {"dataset": "unheard_of"},
            {"dataset": "chain_sum", "config": {"min_terms": -1}},
            {"data": 1},
            {},
            {"dataset": "chain_sum", "datasets": {"spell_backward": {}}},
        ],
    )
    def test_wrong_options_are_refused(self, options: dict[str, Any]) -> None:
        from mendloop.suites.reasoning_gym import reasoning_gym_task

        with pytest.raises(InvalidRecipe, match="reasoning-gym"):
            reasoning_gym_task(options)

    def _several(self) -> Task:
        from mendloop.suites.reasoning_gym import reasoning_gym_task

        terms = {"min_terms": 2, "max_terms": 5}
        return reasoning_gym_task({"datasets": {"chain_sum": terms, "spell_backward": {}, "count_bits": {}}})

    def test_several_generators_share_a_suite_equally_and_each_scores_its_own_items(self) -> None:
        task = self._several()
        items = task.items(counts={"search": 96}, seed=0)

        assert Counter(one.axes["dataset"] for one in items) == dict.fromkeys(
            [("chain_sum",), ("spell_backward",), ("count_bits",)], 32
        )
        assert all(self._several().score(one, one.target).value == 1.0 for one in items)
        assert all(self._several().score(one, "no").value < 1.0 for one in items)

    @pytest.mark.parametrize(
        "conditions",
        [
            [("dataset", "spell_backward")],
            [("dataset", "chain_sum"), ("num_terms", "4")],
            [],
        ],
    )
    def test_the_teacher_honours_dataset_and_difficulty_and_verifies(self, conditions: list[tuple[str, str]]) -> None:
        task = self._several()

        taught = list(islice(task.teach(conditions, seed=3), 40))

        assert len({row.prompt for row in taught}) == 40
        assert all(matches(row.axes, conditions) and task.annotate(row.prompt) == row.axes for row in taught)
        assert all(task.verify(row.prompt, row.completion) for row in taught)
        assert not any(task.verify(row.prompt, "no") for row in taught)

    def test_a_slice_that_is_never_drawn_ends_the_lesson(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mendloop.suites.dynamic.LESSON_PATIENCE", 50)

        assert list(self._several().teach([("num_terms", "9")], seed=0)) == []

    def test_the_same_seed_teaches_the_same_and_another_one_something_else(self) -> None:
        def taught(seed: int) -> list[str]:
            return [row.prompt for row in islice(self._several().teach([], seed=seed), 40)]

        assert taught(3) == taught(3)
        assert len(set(taught(3)) & set(taught(4))) <= 2, "count_bits has few questions"

    def test_a_generator_that_the_suite_does_not_have_cannot_be_taught(self) -> None:
        with pytest.raises(ValueError, match="no generator tower_of_hanoi in this suite"):
            next(self._several().teach([("dataset", "tower_of_hanoi")], seed=0))

    def test_no_seed_of_the_teacher_is_one_of_items_corpus_or_pool(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from mendloop.suites import reasoning_gym as family

        seeds: list[int] = []
        made = family._dataset

        def noted(name: str, settings: str, seed: int) -> Any:
            seeds.append(seed)
            return made(name, settings, seed)

        monkeypatch.setattr(family, "_dataset", noted)
        task = self._task("count_bits")
        task.items(counts={"search": 600}, seed=0)
        task.corpus({"count": 600})
        task.pool({"count": 600})
        others = {seed + entry for seed in seeds for entry in range(family.BLOCK)}
        seeds.clear()
        list(islice(task.teach([], seed=0), 600))

        taught = {seed + entry for seed in seeds for entry in range(family.BLOCK)}
        assert max(others) < min(taught)
        assert max(taught) < 2**32


def test_the_families_are_registered() -> None:
    assert find_task("scan-fresh", {"draw": 1}).stop_strings == ()
