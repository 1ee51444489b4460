"""Splitting examples over slices: by failed items, or by what past rounds taught."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mendloop.controller.domain.records import Conditions
from mendloop.controller.domain.strategies import Need, Past, Strategy, belief, by_failures, expected_gain

LEARNT: Conditions = (("verb", "jump"),)
STUCK: Conditions = (("verb", "look"),)
NEEDS = [Need(LEARNT, "data_missing", 40), Need(STUCK, "data_missing", 60)]


def past(conditions: Conditions, *, examples: int = 30, before: int = 50, after: int = 10, cause: str = "c") -> Past:
    return Past(conditions, cause, examples, before, after)


def test_without_past_rounds_both_split_by_failed_items_and_expect_nothing() -> None:
    for strategy in (by_failures, expected_gain):
        split = strategy(10, NEEDS, past=[], seed=0)
        assert split.counts == (4, 6)
        assert (split.is_informed, split.gain) == (False, 0.0)


def test_rate_of_a_round_is_the_one_that_its_response_had() -> None:
    rate = past(LEARNT, examples=30, before=1000, after=round(1000 * math.exp(-0.03 * 30))).rate
    assert rate == pytest.approx(0.03, abs=1e-3)
    assert past(LEARNT, before=50, after=55).rate == 0.0


def test_variance_of_a_rate_is_that_of_simulated_rounds() -> None:
    rng = np.random.default_rng(1)
    left = rng.binomial(200, math.exp(-0.03 * 30), size=4000)
    rates = [past(LEARNT, examples=30, before=200, after=int(count)).rate for count in left]
    stated = past(LEARNT, examples=30, before=200, after=round(200 * math.exp(-0.9))).variance
    assert np.var(rates) == pytest.approx(stated, rel=0.15)


def test_slice_that_was_never_tried_borrows_from_all_and_is_less_certain() -> None:
    rows = [past(LEARNT), past(LEARNT, after=12)]
    tried, untried = belief(Need(LEARNT, "c", 20), rows), belief(Need(STUCK, "c", 20), rows)
    assert untried.mean == pytest.approx(tried.mean, rel=0.1)
    assert untried.spread > tried.spread


def test_cause_that_gained_less_promises_less() -> None:
    rows = [past(LEARNT, cause="data_missing"), past((("verb", "run"),), after=48, cause="noisy")]
    likely, unlikely = belief(Need(STUCK, "data_missing", 20), rows), belief(Need(STUCK, "noisy", 20), rows)
    assert likely.mean > 2 * unlikely.mean


def test_same_seed_gives_the_same_split_and_all_examples_are_given() -> None:
    rows = [past(LEARNT), past(STUCK, after=45)]
    splits = [expected_gain(64, NEEDS, past=rows, seed=seed) for seed in (3, 3, 4)]
    assert splits[0] == splits[1]
    assert all(sum(split.counts) == 64 for split in splits)


def test_dear_examples_are_ordered_less_often() -> None:
    rows = [past(LEARNT, before=500, after=100), past(STUCK, before=500, after=100)]
    needs = [Need(LEARNT, "c", 50), Need(STUCK, "c", 50, cost=4.0)]
    cheap, dear = expected_gain(64, needs, past=rows, seed=0).counts
    assert cheap > dear


def _fixed(strategy: Strategy, rates: dict[Conditions, float], *, seed: int, rounds: int = 4, count: int = 24) -> int:
    """Failures that are put right in truth over some rounds, each planned with what the rounds before measured."""
    rng = np.random.default_rng(seed)
    failed = {need.conditions: 2 * need.failed_count for need in NEEDS}
    known: list[Past] = []
    for number in range(rounds):
        needs = [Need(conditions, "c", left) for conditions, left in failed.items()]
        split = strategy(count, needs, past=known, seed=1000 * seed + number)
        for need, given in zip(needs, split.counts, strict=True):
            left = int(rng.binomial(need.failed_count, math.exp(-rates[need.conditions] * given)))
            known.append(Past(need.conditions, "c", given, need.failed_count, left))
            failed[need.conditions] = left
    return sum(2 * need.failed_count for need in NEEDS) - sum(failed.values())


def test_expected_gain_beats_the_split_by_failures_where_one_slice_does_not_learn() -> None:
    rates = {LEARNT: 0.03, STUCK: 0.0005}
    gains = [[_fixed(s, rates, seed=seed) for s in (expected_gain, by_failures)] for seed in range(60)]
    informed, plain = np.mean(gains, axis=0)
    assert informed > 1.15 * plain


def test_expected_gain_is_not_worse_where_all_slices_learn_alike() -> None:
    rates = {LEARNT: 0.02, STUCK: 0.02}
    gains = np.array([[_fixed(s, rates, seed=seed) for s in (expected_gain, by_failures)] for seed in range(60)])
    assert gains[:, 0].mean() > 0.97 * gains[:, 1].mean()
