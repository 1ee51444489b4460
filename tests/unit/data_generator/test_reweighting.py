from __future__ import annotations

from collections import Counter

import pytest

from mendloop.data_generator.domain.reweighting import by_deficit, resampled

COUNTS = {"easy": 800, "hard": 150, "noise": 50}


def test_weights_by_deficit_lie_between_the_corpus_and_the_deficits() -> None:
    deficits = {"hard": 30.0, "noise": 10.0}

    assert by_deficit(COUNTS, deficits, strength=0) == {"easy": 0.8, "hard": 0.15, "noise": 0.05}
    assert by_deficit(COUNTS, deficits, strength=1) == {"easy": 0.0, "hard": 0.75, "noise": 0.25}
    assert by_deficit(COUNTS, deficits, strength=0.5) == pytest.approx({"easy": 0.4, "hard": 0.45, "noise": 0.15})


def test_without_a_deficit_the_corpus_keeps_its_shares_and_an_empty_group_gets_nothing() -> None:
    assert by_deficit({**COUNTS, "gone": 0}, {"gone": 9.0}, strength=1) == {"easy": 0.8, "hard": 0.15, "noise": 0.05}


@pytest.mark.parametrize(("counts", "strength"), [({}, 0.5), ({"a": 0}, 0.5), (COUNTS, 1.5)])
def test_weights_of_nothing_and_an_impossible_strength_are_refused(counts: dict[str, int], strength: float) -> None:
    with pytest.raises(ValueError, match=r"no group|strength is"):
        by_deficit(counts, {}, strength=strength)


def test_a_resampled_corpus_has_its_size_and_the_shares_of_the_weights() -> None:
    rows = list(range(100))
    groups = ["a"] * 80 + ["b"] * 20

    drawn = resampled(rows, groups, {"a": 0.5, "b": 0.5}, seed=1)

    counts = Counter(groups[row] for row in drawn)
    times = Counter(drawn)
    assert counts == {"a": 50, "b": 50}
    assert {times[row] for row in rows[80:]} == {2, 3}
    assert max(times[row] for row in rows[:80]) == 1
    assert drawn == sorted(drawn) == resampled(rows, groups, {"a": 0.5, "b": 0.5}, seed=1)


def test_a_corpus_resampled_by_its_own_shares_is_the_corpus() -> None:
    rows = list("abcdefg")
    groups = ["x", "x", "y", "x", "z", "z", "x"]

    assert resampled(rows, groups, {"x": 4 / 7, "y": 1 / 7, "z": 2 / 7}, seed=3) == rows
