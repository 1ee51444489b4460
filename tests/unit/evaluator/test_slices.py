"""The slice search by simulation: false slices under no weakness, planted weaknesses recovered."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from builders import outcome
from slice_worlds import (
    AROUND_RIGHT,
    EVERYTHING,
    JUMP,
    JUMP_AROUND,
    RULES,
    RUN_THRICE,
    TEMPLATE,
    outcomes_of,
    planted,
    precision_and_recall,
    searched,
)

from mendloop.core.recipe import SuiteSettings
from mendloop.core.records import Outcome, Split
from mendloop.core.tasks import Conditions, matches
from mendloop.evaluator.domain.candidates import candidates_of, count, pack
from mendloop.evaluator.domain.slices import find_weak_slices
from mendloop.evaluator.domain.weakness import SliceRules


@pytest.mark.parametrize("accuracy", [0.95, 0.80])
def test_a_model_without_weakness_gets_a_false_slice_in_at_most_five_percent_of_rounds(accuracy: float) -> None:
    rounds = 60

    false = sum(bool(searched(lambda axes: accuracy, seed=seed).weak) for seed in range(rounds))

    assert false / rounds <= 0.05


@pytest.mark.parametrize(
    ("truth", "p_weak"),
    [
        ([JUMP], 0.0),
        ([JUMP], 0.5),
        ([JUMP_AROUND], 0.1),
        ([JUMP, AROUND_RIGHT], 0.1),
        ([JUMP, RUN_THRICE, AROUND_RIGHT], 0.2),
        ([EVERYTHING], 0.0),
        ([EVERYTHING], 0.6),
    ],
    ids=["one", "one mild", "conjunction", "two", "three", "everything", "everything mildly"],
)
def test_planted_weaknesses_are_reported_and_nothing_else(truth: list[Conditions], p_weak: float) -> None:
    precision, recall = precision_and_recall(truth, planted(*truth, p_weak=p_weak), rounds=15)

    assert precision >= 0.95
    assert recall >= 0.9


def test_many_weak_slices_do_not_make_all_items_weak() -> None:
    truth = [(("verb", verb),) for verb in ("jump", "walk", "look")]
    p_correct = planted(*truth, p_weak=0.1)

    found = {weak.conditions for weak in searched(p_correct, seed=0).weak}

    assert found == set(truth)  # together they hold most items, and the rest of the items is healthy


def test_a_slice_that_only_shares_items_with_a_weak_one_is_not_reported() -> None:
    rows = outcomes_of(planted(p_weak=0.0), seed=1)
    shared = [replace(row, axes={"verb": ("jump", "turn")}, score=0.0) for row in rows[:100] + rows[600:650]]
    alone = [replace(row, axes={"verb": ("jump",)}, score=0.0) for row in rows[100:150] + rows[650:700]]
    healthy = [replace(row, axes={"verb": ("turn",)}, score=1.0) for row in rows[150:200] + rows[700:750]]
    rest = [replace(row, axes={"verb": ("walk",)}, score=1.0) for row in rows[200:600] + rows[750:]]

    search = find_weak_slices([*shared, *alone, *healthy, *rest], rules=replace(RULES, axes=("verb",)))

    assert [weak.conditions for weak in search.weak] == [JUMP]
    assert search.confirmed_count > 1  # `turn` was weak on both splits before its shared items were taken out


def test_evidence_of_a_slice_is_counted_over_all_of_its_items() -> None:
    rows = outcomes_of(planted(JUMP, p_weak=0.0), seed=2)

    (weak,) = find_weak_slices(rows, rules=RULES).weak

    searched_rows = [row for row in rows if row.split == "search" and "jump" in row.axes["verb"]]
    confirmed_rows = [row for row in rows if row.split == "confirm" and "jump" in row.axes["verb"]]
    assert weak.search == (0, len(searched_rows))
    assert weak.confirm == (0, len(confirmed_rows))
    assert weak.p_value <= weak.q_value <= RULES.fdr
    assert weak.unexplained_count == len(searched_rows) + len(confirmed_rows)


def test_a_slice_that_the_second_split_does_not_confirm_is_not_reported() -> None:
    rows = outcomes_of(planted(JUMP, p_weak=0.0), seed=3)
    confirmed_right = [replace(row, score=1.0) if row.split == "confirm" else row for row in rows]

    assert find_weak_slices(confirmed_right, rules=RULES).weak == ()


def test_confirmation_by_accuracy_alone_holds_only_where_no_p_value_could_be_small() -> None:
    # below a threshold of .2 even 5 wrong answers of 5 have p = .33
    rules = replace(RULES, axes=("verb",), weak_below=0.2, min_confirm_items=5)
    search = [_row(i, "search", right=False) for i in range(200)]

    assert len(
        find_weak_slices([*search, *(_row(900 + i, "confirm", right=False) for i in range(5))], rules=rules).weak
    )
    mixed = [_row(900 + i, "confirm", right=i < 1) for i in range(5)]
    assert find_weak_slices([*search, *mixed], rules=rules).weak == ()


def test_sealed_outcomes_play_no_part() -> None:
    rows = outcomes_of(lambda axes: 1.0, seed=4)
    sealed = [replace(row, item_id=f"s{row.item_id}", split="sealed", score=0.0) for row in rows]

    assert find_weak_slices([*rows, *sealed], rules=RULES).weak == ()


def test_no_outcomes_and_a_threshold_of_zero_give_no_slice() -> None:
    assert find_weak_slices([], rules=RULES).candidate_count == 0
    rows = outcomes_of(lambda axes: 0.0, seed=5)
    assert find_weak_slices(rows, rules=replace(RULES, weak_below=0.0)).weak == ()


def test_slices_beyond_the_limit_are_cut_and_counted() -> None:
    rows = outcomes_of(planted(JUMP, AROUND_RIGHT, p_weak=0.0), seed=6)

    search = find_weak_slices(rows, rules=replace(RULES, max_slices=1))

    assert [weak.conditions for weak in search.weak] == [JUMP]
    assert search.cut_count == 1


def test_the_report_does_not_depend_on_the_order_of_outcomes_or_axes() -> None:
    rows = outcomes_of(planted(JUMP, AROUND_RIGHT, p_weak=0.3), seed=7)
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]

    turned = replace(RULES, axes=tuple(reversed(RULES.axes)))

    assert find_weak_slices(shuffled, rules=turned) == find_weak_slices(rows, rules=RULES)


def test_hundreds_of_candidates_on_1200_items_take_well_under_a_second() -> None:
    rows = outcomes_of(planted(JUMP, p_weak=0.3), seed=8, n=1200)
    rules = replace(RULES, max_depth=3)

    started = time.process_time()
    search = find_weak_slices(rows, rules=rules)

    assert search.candidate_count > 300
    assert time.process_time() - started < 1.0


def test_the_mask_of_every_candidate_holds_the_items_that_its_definition_says() -> None:
    items = [row.axes for row in outcomes_of(lambda axes: 1.0, seed=9, n=300)]
    everything = pack(np.ones(len(items), dtype=np.bool_))

    found = candidates_of(items, axes=RULES.axes, max_depth=3, splits=[(everything, 10)])

    expected = pack(np.array([[matches(axes, definition) for axes in items] for definition in found.definitions]))
    assert np.array_equal(found.masks(range(len(found.definitions))), expected)
    assert len(found.definitions) > 100


def test_a_search_over_30000_items_and_8_axes_takes_seconds() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 6, (30_000, 8))
    right = rng.random(30_000) < np.where((values[:, 0] == 0) & (values[:, 1] == 1), 0.3, 0.9)
    splits: list[Split] = ["confirm" if i % 3 == 0 else "search" for i in range(30_000)]
    rows = [
        replace(TEMPLATE, item_id=f"{i:06d}", split=splits[i], score=float(right[i]), axes=_numbered(row))
        for i, row in enumerate(values.tolist())
    ]
    axes = tuple(f"a{a}" for a in range(8))

    started = time.process_time()
    search = find_weak_slices(rows, rules=replace(RULES, axes=axes))

    assert [weak.conditions for weak in search.weak] == [(("a0", "v0"), ("a1", "v1"))]
    assert search.candidate_count == 1 + 8 * 6 + 28 * 36
    assert time.process_time() - started < 5.0


def test_candidates_are_every_conjunction_of_different_axes_that_is_large_enough() -> None:
    items = [{"a": ("x", "y"), "b": ("u",)}] * 3 + [{"a": ("x",), "b": ("v",)}] * 2
    everything = pack(np.ones(5, dtype=np.bool_))

    found = candidates_of(items, axes=["b", "a"], max_depth=2, splits=[(everything, 3)])

    # a=y holds just the items of b=u, and a=x those of everything: the first and most general name stays
    sizes = dict(zip(found.definitions, count(found.masks(range(2))).tolist(), strict=True))
    assert sizes == {(): 5, (("a", "y"),): 3}
    assert found.too_small_count == 1  # b=v
    assert found.duplicate_count == 3  # a=x, b=u, a=y ∧ b=u


def test_the_second_split_needs_the_same_share_of_items_and_never_under_five() -> None:
    assert SliceRules.of(SuiteSettings(axes=["a"], search=600, confirm=300, min_items=20)).min_confirm_items == 10
    assert SliceRules.of(SuiteSettings(axes=["a"], search=600, confirm=60, min_items=20)).min_confirm_items == 5


def _numbered(values: list[int]) -> dict[str, tuple[str, ...]]:
    return {f"a{axis}": (f"v{value}",) for axis, value in enumerate(values)}


def _row(index: int, split: Split, *, right: bool) -> Outcome:
    return outcome(f"{index:05d}", split=split, score=float(right), axes={"verb": ("jump",)})
