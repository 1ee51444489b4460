"""At which level tests are asked over rounds and over queries of sealed items."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mendloop.controller.domain.gates import SEALED_ALL, SEALED_TARGET, sealed_gates
from mendloop.controller.domain.levels import UNASKED, Standing, level_of_round, standing_of
from mendloop.controller.domain.pairs import Counts
from mendloop.core.stats import p_improved

JUMP = (("verb", "jump"),)
EVERYTHING = Counts(n=300, lost=2, gained=30, both=200)
GOOD, FLAT = Counts(50, 1, 30, 2), Counts(50, 5, 6, 2)


def _asked(counts: Counts, standing: Standing) -> list[str]:
    rules = {"target_count": 1, "is_wanted": True, "design_effect": 1.0, "alpha": 0.05, "margin": 0.05}
    answers = sealed_gates(EVERYTHING, [(JUMP, counts)], standing=standing, **rules)
    return [f"{answer.gate} {answer.passed}" for answer in answers]


def test_one_round_is_tested_at_alpha_and_more_share_it() -> None:
    assert level_of_round(0.05, rounds=1) == 0.05
    assert level_of_round(0.05, rounds=5) == pytest.approx(0.01)
    with pytest.raises(ValueError, match="rounds is 0"):
        level_of_round(0.05, rounds=0)


def test_run_without_gain_passes_in_any_of_its_rounds_at_most_at_alpha() -> None:
    rng = np.random.default_rng(3)
    flips = rng.binomial(200, 0.2, size=(2000, 5))
    gained = rng.binomial(flips, 0.5)
    p = np.vectorize(p_improved)(flips - gained, gained)
    assert (p <= 0.05).any(axis=1).mean() > 0.10  # without spending
    assert (p <= level_of_round(0.05, rounds=5)).any(axis=1).mean() <= 0.05


def test_levels_over_all_histories_of_a_budget_add_up_to_no_more_than_alpha() -> None:
    budget = 7
    levels = [
        Standing(len(answers), sum(1 for answer in answers if answer != "no"), budget).level(0.05)
        for used in range(budget)
        for answers in itertools.product(("no", "yes, harmless", "yes, harmful"), repeat=used)
    ]
    assert sum(levels) <= 0.05 + 1e-12


def test_without_a_budget_every_query_is_tested_at_alpha_and_counted_in_words() -> None:
    assert standing_of([True, False], budget=None).level(0.05) == 0.05
    assert standing_of([True, False], budget=None).in_words == "query 3 of this sealed suite, no budget set"
    assert standing_of([True, False], budget=10).in_words == "query 3 of this sealed suite's 10, 7 left"


def test_sealed_items_with_a_budget_tell_yes_or_no_and_no_figure() -> None:
    rules = {"target_count": 1, "is_wanted": True, "design_effect": 1.0, "alpha": 0.05, "margin": 0.05}
    told = sealed_gates(EVERYTHING, [(JUMP, GOOD)], standing=Standing(0, 0, 10), **rules)
    assert [answer.passed for answer in told] == [True, True]
    assert {(answer.before, answer.after, answer.p_value) for answer in told} == {(0.0, 0.0, 1.0)}
    assert "9 left" in told[0].requirement


def test_harm_is_not_asked_about_where_there_is_no_gain() -> None:
    assert _asked(FLAT, Standing(0, 0, 10)) == [f"{SEALED_TARGET} False"]
    assert _asked(FLAT, UNASKED) == [f"{SEALED_TARGET} False", f"{SEALED_ALL} True"]


def test_spent_budget_lets_nothing_through_and_says_what_to_do() -> None:
    rules = {"target_count": 1, "is_wanted": True, "design_effect": 1.0, "alpha": 0.05, "margin": 0.05}
    (answer,) = sealed_gates(EVERYTHING, [(JUMP, GOOD)], standing=Standing(10, 2, 10), **rules)
    assert not answer.passed
    assert "answered 10 of 10 queries: draw new sealed items" in answer.requirement


def test_impossible_count_of_answers_is_refused() -> None:
    with pytest.raises(ValueError, match="told_count is 3"):
        Standing(2, 3, 10)
