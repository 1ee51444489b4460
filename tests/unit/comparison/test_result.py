"""A comparison pairs, tells what it cannot pair, corrects over its rows, and keeps false rows rare."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from builders import outcome

from mendloop.comparison.document import as_document, p_text, points, reading, silent_losses, verdict
from mendloop.comparison.result import Settings, compare
from mendloop.core.records import Outcome
from mendloop.core.stats import benjamini_hochberg, holm

NAMES = ("before", "after")


def _rows(scores: dict[str, float], **axes: str) -> list[Outcome]:
    named = {axis: (value,) for axis, value in axes.items()}
    return [outcome(item_id, score=score, axes=named) for item_id, score in scores.items()]


def test_items_without_partner_are_told_and_counted() -> None:
    first = [*_rows({"a": 1.0, "b": 0.0, "c": 1.0}), replace(outcome("d"), target="X", score=0.0)]
    second = [*_rows({"b": 1.0, "c": 1.0, "e": 1.0}), outcome("d")]

    found = compare(first, second, names=NAMES, settings=Settings(min_n=1))

    assert found.overall.n == 2
    assert found.unpaired == {
        "only in the first set": ("a",),
        "only in the second set": ("e",),
        "other target in the second set": ("d",),
    }
    assert as_document(found)["unpaired"]["only in the first set"] == {"count": 1, "item_ids": ["a"]}


def test_sets_without_a_common_item_are_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="share no item \\(1 only in the first set, 1 only in the second set\\)"):
        compare([outcome("a")], [outcome("b")], names=NAMES)


def test_an_item_twice_in_one_set_is_refused() -> None:
    with pytest.raises(ValueError, match="the second set has item 'a', repeat 0 twice"):
        compare([outcome("a")], [outcome("a"), outcome("a")], names=NAMES)


def test_other_prompts_and_repeats_are_remarked() -> None:
    first = [outcome("a", prompt="short"), outcome("b")]
    second = [outcome("a", prompt="long"), outcome("b"), replace(outcome("b"), repeat_index=1)]

    found = compare(first, second, names=NAMES)

    assert found.remarks == {"other prompt in the second set": 1, "other number of repeats in the second set": 1}
    assert found.second.repeat_count == 2


def test_rows_are_tasks_then_axes_then_conjunctions_and_small_ones_are_told() -> None:
    first = [
        outcome(f"{task}{kind}{index}", score=0.0, axes={"task": (task,), "kind": (kind,)})
        for task in ("t1", "t2")
        for kind, count in (("x", 12), ("y", 3))
        for index in range(count)
    ]
    second = [replace(row, score=1.0) for row in first]

    found = compare(first, second, names=NAMES, settings=Settings(by=("kind", "task+kind", "hue")))

    assert [(row.axis, row.value) for row in found.rows] == [
        ("task", "t1"),
        ("task", "t2"),
        ("kind", "x"),
        ("task+kind", "t1 & x"),
        ("task+kind", "t2 & x"),
    ]
    assert sorted(found.small_slices) == ["kind=y (n=6)", "task+kind=t1 & y (n=3)", "task+kind=t2 & y (n=3)"]
    assert found.missing_axes == {"hue": 30}


def test_p_values_are_corrected_over_all_rows_and_the_shown_one_decides() -> None:
    rng = np.random.default_rng(0)
    first = [outcome(f"{t}/{i}", score=0.0, axes={"task": (f"t{t}",)}) for t in range(6) for i in range(40)]
    second = [replace(row, score=float(rng.random() < 0.02 + 0.03 * (index // 40))) for index, row in enumerate(first)]

    found = compare(first, second, names=NAMES)
    by_discovery = compare(first, second, names=NAMES, settings=Settings(correction="bh"))

    raw = [row.difference.p_value for row in found.rows]
    assert [row.p_holm for row in found.rows] == holm(raw)
    assert [row.p_bh for row in found.rows] == benjamini_hochberg(raw)
    for shown in (found, by_discovery):
        for row in shown.rows:
            assert (reading(shown, row) != "not shown") == (shown.corrected(row) <= shown.level)
    assert [found.corrected(row) for row in found.rows] != [by_discovery.corrected(row) for row in by_discovery.rows]


def test_no_row_is_called_different_more_than_5_times_in_100_where_nothing_differs() -> None:
    rng = np.random.default_rng(1)
    runs, false = 150, 0
    axes = [{"task": (f"t{index % 8}",)} for index in range(160)]
    for _ in range(runs):
        hits = rng.random((2, 160)) < 0.5
        first, second = ([outcome(str(i), score=float(hit), axes=axes[i]) for i, hit in enumerate(row)] for row in hits)
        found = compare(first, second, names=NAMES)
        false += any(reading(found, row) != "not shown" for row in found.rows)
    assert false / runs <= 0.05 + 2 * 0.0178


def test_losses_without_an_answer_are_said() -> None:
    first = _rows({str(i): 1.0 for i in range(20)}, task="sort")
    second = [replace(row, score=float(i >= 6), extraction="none" if i < 5 else "exact") for i, row in enumerate(first)]

    found = compare(first, second, names=NAMES)

    assert found.rows[0].unanswered == (0, 5, 5)
    assert silent_losses(found)[0].startswith("task sort: 5 of 6 lost items have no answer in after")


def test_the_anytime_version_is_left_out_where_items_come_in_groups() -> None:
    alone, grouped = (
        compare(rows, rows, names=NAMES, settings=Settings(anytime=True))
        for rows in (_rows({"a": 1.0, "b": 0.0}), _rows({"a": 1.0, "b": 0.0}, group="text"))
    )

    assert alone.anytime is not None
    assert grouped.anytime is None
    assert any("anytime-valid version needs independent items" in remark for remark in grouped.remarks)


def test_words_follow_the_test() -> None:
    many = {str(i): 0.0 for i in range(30)}
    better = compare(_rows(many), _rows(dict.fromkeys(many, 1.0)), names=NAMES)
    same = compare(_rows(many), _rows(many), names=NAMES)

    assert verdict(better).startswith("after is better than before by 100.0 points on 30 items")
    assert verdict(same).startswith("No difference between before and after is shown (+0.0 points")
    assert (points(-0.1234), p_text(0.0004), p_text(0.0456), p_text(1.0)) == ("−12.3", "<.001", ".046", "1.00")


def test_the_document_is_plain_json() -> None:
    found = compare(_rows({"a": 1.0}), _rows({"a": 0.0}), names=NAMES, settings=Settings(anytime=True))

    assert json.loads(json.dumps(as_document(found), allow_nan=False))["lost"] == ["a"]


@pytest.mark.parametrize("bad", [{"confidence": 1.0}, {"min_n": 0}])
def test_impossible_settings_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"it must lie|needs at least"):
        Settings(**bad)  # type: ignore[arg-type]  # wrong on purpose
