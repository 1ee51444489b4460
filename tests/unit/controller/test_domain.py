"""Allocation, budget, choice and pairing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendloop.controller.domain.allocation import allocate
from mendloop.controller.domain.budget import (
    GPU_S,
    MONEY,
    NEW_EXAMPLES,
    TEACHER_TOKENS,
    TRAIN_TOKENS,
    WALL_S,
    Usage,
    examples_of_round,
    limits_of_work,
    metered_requests,
    reserve,
    settle,
    shortage,
    spent,
    token_bound,
)
from mendloop.controller.domain.choice import choose
from mendloop.controller.domain.pairs import Counts, Result, pair
from mendloop.controller.domain.records import Cost, Diagnosis, Kind, total
from mendloop.core.errors import Permanent
from mendloop.core.recipe import BudgetSettings, TrainSettings

BUDGET = BudgetSettings(new_examples=64, train_tokens=1000, wall_s=100)


def verdict(name: str, kind: Kind, *, fixes: tuple[tuple[str, str], ...] = (), failed: int = 10) -> Diagnosis:
    return Diagnosis(0, "", "e", name, (("verb", name),), "data_missing", 0.9, kind, fixes, failed, Cost(), b"")


def test_shares_follow_the_largest_remainders() -> None:
    assert allocate(10, [47, 16, 37]) == [5, 1, 4]
    assert allocate(3, [0, 0]) == [2, 1]
    assert allocate(5, []) == []


@given(st.integers(0, 10_000), st.lists(st.integers(0, 1000), min_size=1, max_size=20))
def test_shares_add_up_and_stay_within_one_of_the_exact_share(count: int, weights: list[int]) -> None:
    shares = allocate(count, weights)
    parts = weights if any(weights) else [1] * len(weights)
    assert sum(shares) == count
    assert all(abs(s - count * w / sum(parts)) < 1 for s, w in zip(shares, parts, strict=True))


def test_negative_weight_is_refused_with_its_value() -> None:
    with pytest.raises(ValueError, match="-1"):
        allocate(5, [1, -1])


def test_token_bound_assumes_that_every_example_is_as_long_as_the_cut_allows() -> None:
    assert token_bound(TrainSettings(steps=10, batch_size=4, max_tokens=8)) == 320
    assert token_bound(TrainSettings(steps=10, batch_size=4, max_tokens=8, objective="dpo")) == 640


def test_reservation_counts_until_it_is_settled_with_what_was_metered() -> None:
    ledger = reserve("p1", {NEW_EXAMPLES: 40, TRAIN_TOKENS: 800})
    assert spent(ledger, TRAIN_TOKENS) == 800
    assert shortage(ledger, BUDGET, requests={TRAIN_TOKENS: 300}, elapsed_s=0) is not None
    ledger = settle(ledger, "p1", metered={TRAIN_TOKENS: 500})
    assert spent(ledger, TRAIN_TOKENS) == 500
    assert spent(ledger, NEW_EXAMPLES) == 0
    assert shortage(ledger, BUDGET, requests={TRAIN_TOKENS: 300}, elapsed_s=0) is None


def test_settled_reservation_is_not_settled_again() -> None:
    ledger = settle(reserve("p1", {TRAIN_TOKENS: 800}), "p1", metered={TRAIN_TOKENS: 500})
    assert settle(ledger, "p1", metered={TRAIN_TOKENS: 0}) == ledger


def test_work_that_cannot_end_before_the_wall_clock_budget_is_refused() -> None:
    missing = shortage((), BUDGET, requests={WALL_S: 30}, elapsed_s=71)
    assert missing is not None
    assert (missing.resource, missing.used, missing.requested) == (WALL_S, 71, 30)
    assert shortage((), BUDGET, requests={WALL_S: 29}, elapsed_s=71) is None


PRICED = BudgetSettings(gpu_s=100, teacher_tokens=1000, money=10, prices={"gpu_hour": 36, "teacher_mtokens": 1000})


def test_plan_reserves_its_share_of_what_is_left_of_gpu_seconds_tokens_and_money() -> None:
    ledger = settle(reserve("p1", {GPU_S: 50, MONEY: 5}), "p1", metered={GPU_S: 20, MONEY: 2})
    rules = {"need": Usage(gpu_s=1), "outside": Usage(gpu_s=20), "parts_left": 2, "has_teacher": True}
    asked = metered_requests(ledger, PRICED, **rules)
    assert asked == pytest.approx({GPU_S: (100 - 20 - 20) / 2, TEACHER_TOKENS: 500, MONEY: (10 - 2 - 0.2) / 2})
    assert metered_requests(ledger, BudgetSettings(), **rules) == {}


def test_plan_that_needs_more_than_its_share_asks_for_its_need_and_is_refused_where_it_does_not_fit() -> None:
    need = Usage(gpu_s=90)
    outside = Usage(gpu_s=20)
    asked = metered_requests((), PRICED, need=need, outside=outside, parts_left=4, has_teacher=False)
    missing = shortage((), PRICED, requests=asked, elapsed_s=0, outside=outside)
    assert asked[GPU_S] == 90
    assert missing is not None
    assert (missing.resource, missing.limit, missing.used, missing.requested) == (GPU_S, 100, 20, 90)


def test_share_that_is_all_that_is_left_fits_in_spite_of_rounding() -> None:
    budget = BudgetSettings(gpu_s=0.3)
    ledger = settle(reserve("p1", {GPU_S: 0.1}), "p1", metered={GPU_S: 0.1})
    asked = metered_requests(ledger, budget, need=Usage(), outside=Usage(), parts_left=1, has_teacher=True)
    assert shortage(ledger, budget, requests=asked, elapsed_s=0) is None


def test_limits_of_a_plans_work_cost_no_more_than_its_money() -> None:
    limits = limits_of_work({MONEY: 5, TEACHER_TOKENS: 4000}, PRICED.prices, need=Usage(gpu_s=100))
    assert limits == Usage(250, 2500)  # half of the money each
    assert limits.money(PRICED.prices) == pytest.approx(5)
    assert limits_of_work({MONEY: 5}, PRICED.prices, need=Usage(gpu_s=400)) == Usage(400, 1000)
    assert limits_of_work({GPU_S: 7}, PRICED.prices, need=Usage()) == Usage(7, 0)


def test_money_without_a_price_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing has a price"):
        BudgetSettings(money=3)


def test_examples_are_shared_over_the_rounds_that_are_left() -> None:
    ledger = settle(reserve("p1", {NEW_EXAMPLES: 22}), "p1", metered={NEW_EXAMPLES: 10})
    assert examples_of_round((), BUDGET, rounds_left=3) == 22
    assert examples_of_round(ledger, BUDGET, rounds_left=2) == 27
    assert examples_of_round(ledger, BUDGET, rounds_left=1) == 54


def test_fix_that_two_verdicts_disagree_on_takes_the_value_with_more_failures_behind_it() -> None:
    few = verdict("a", Kind.TRAINING_FIX, fixes=(("train.steps", "100"),), failed=3)
    many = verdict("b", Kind.TRAINING_FIX, fixes=(("train.steps", "400"),), failed=30)
    chosen = choose([few, many])
    assert chosen is not None
    assert chosen.fixes == (("train.steps", "400"),)


def test_fix_without_a_setting_counts_as_abstaining() -> None:
    assert choose([verdict("a", Kind.TRAINING_FIX)]) is None
    chosen = choose([verdict("a", Kind.TRAINING_FIX), verdict("b", Kind.DATA)])
    assert chosen is not None
    assert (chosen.kind, [v.slice_id for v in chosen.verdicts]) == (Kind.DATA, ["b"])


def test_checkpoints_that_were_measured_on_different_items_are_not_compared() -> None:
    with pytest.raises(Permanent, match="'i2'"):
        pair([Result("i1", {}, True), Result("i2", {}, True)], [Result("i1", {}, True)])


def test_impossible_paired_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="n = 3"):
        Counts(n=3, lost=2, gained=2, both=0)


@given(st.permutations([Cost(0.1, 0.2, 3, 1e15), Cost(0.3, 0, 4, 1.0), Cost(1e9, 0.7, 5, 1e-3)]))
def test_total_cost_does_not_depend_on_the_order(costs: list[Cost]) -> None:
    assert total(costs) == total(sorted(costs))
