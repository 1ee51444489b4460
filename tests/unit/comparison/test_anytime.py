"""The anytime-valid version holds its level over many looks, where the fixed-n test does not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mendloop.comparison.anytime import confidence_sequence, log_e_process
from mendloop.core.stats import p_changed

LOOKS = np.arange(10, 501, 10) - 1


def _streams(rng: np.random.Generator, *, count: int, lost: float, gained: float) -> np.ndarray:
    return rng.choice([-1.0, 1.0, 0.0], p=[lost, gained, 1 - lost - gained], size=(count, 500))


def test_fifty_looks_err_at_most_5_times_in_100_and_fixed_n_far_more() -> None:
    streams = _streams(np.random.default_rng(0), count=1000, lost=0.15, gained=0.15)
    assert len(LOOKS) == 50

    anytime = np.mean([(log_e_process(row)[LOOKS] >= math.log(20)).any() for row in streams])
    fixed = np.mean(
        [
            any(p_changed(int(a), int(b)) <= 0.05 for a, b in zip(lost[LOOKS], gained[LOOKS], strict=True))
            for lost, gained in ((np.cumsum(row < 0), np.cumsum(row > 0)) for row in streams[:300])
        ]
    )

    assert anytime <= 0.05
    assert fixed > 0.15


def test_partial_scores_hold_the_level_too() -> None:
    rng = np.random.default_rng(1)
    streams = (rng.binomial(4, 0.3, size=(600, 500)) - rng.binomial(4, 0.3, size=(600, 500))) / 4

    assert np.mean([(log_e_process(row)[LOOKS] >= math.log(20)).any() for row in streams]) <= 0.05


@pytest.mark.parametrize(("lost", "gained"), [(0.05, 0.25), (0.1, 0.1), (0.0, 0.02)])
def test_the_sequence_covers_at_every_look_at_once(lost: float, gained: float) -> None:
    streams = _streams(np.random.default_rng(2), count=200, lost=lost, gained=gained)

    missed = [
        ((found.low_N > gained - lost) | (found.high_N < gained - lost)).any()
        for found in map(confidence_sequence, streams)
    ]

    assert np.mean(missed) <= 0.05 + 0.031  # two standard errors of 200 streams


def test_a_real_difference_is_found_and_the_interval_only_narrows() -> None:
    (stream,) = _streams(np.random.default_rng(3), count=1, lost=0.05, gained=0.35)

    found = confidence_sequence(stream)

    assert found.last.low > 0
    assert found.p_value < 0.001
    assert (np.diff(found.low_N) >= 0).all()
    assert (np.diff(found.high_N) <= 0).all()
    assert (np.diff(found.p_value_N) <= 0).all()


def test_interval_and_p_value_agree() -> None:
    for seed in range(10):
        (stream,) = _streams(np.random.default_rng(seed), count=1, lost=0.1, gained=0.2)
        found = confidence_sequence(stream)
        if found.p_value > 0.05:
            assert found.last.low <= 0 <= found.last.high


def test_later_items_change_what_was_said_before_by_no_more_than_the_grid() -> None:
    (stream,) = _streams(np.random.default_rng(4), count=1, lost=0.1, gained=0.3)

    early, late = confidence_sequence(stream[:100]), confidence_sequence(stream)

    assert early.p_value_N == pytest.approx(late.p_value_N[:100])
    assert early.low_N[20:] == pytest.approx(late.low_N[20:100], abs=0.05)


def test_many_items_give_a_narrow_interval() -> None:
    rng = np.random.default_rng(5)
    stream = rng.choice([-1.0, 1.0, 0.0], p=[0.1, 0.12, 0.78], size=20_000)

    low, high = confidence_sequence(stream).last

    assert low < 0.02 < high
    assert high - low < 3 * 2 * 1.96 * math.sqrt(0.22 / 20_000)  # the price of every look: under 3 fixed-n widths


@pytest.mark.parametrize("bad", [[], [0.1, math.nan], [1.5]])
def test_what_is_no_difference_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match=r"differences in -1\.\.1"):
        confidence_sequence(np.array(bad))
