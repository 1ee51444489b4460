"""Paired estimates against known cases and by simulation: intervals cover, levels hold, power is as stated."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as reference

from mendloop.comparison.estimates import bootstrap_mean, clustered_mean, estimate
from mendloop.comparison.pairing import Pair, Side
from mendloop.comparison.power import detectable_mean, detectable_proportion, in_words
from mendloop.core.stats import p_changed, paired_difference


def _pair(item: int, first: tuple[float, ...], second: tuple[float, ...], *, group: str = "") -> Pair:
    axes = {"group": (group,)} if group else {}
    return Pair(str(item), "p", "t", Side(first, ""), Side(second, ""), axes)


def _binary(lost: int, gained: int, *, n: int) -> list[Pair]:
    rows = [(1.0, 0.0)] * lost + [(0.0, 1.0)] * gained + [(1.0, 1.0)] * (n - lost - gained)
    return [_pair(index, (a,), (b,)) for index, (a, b) in enumerate(rows)]


def test_right_or_wrong_gets_the_exact_test_and_tangos_interval() -> None:
    found = estimate(_binary(4, 15, n=60))

    assert found.method == "mcnemar"
    assert found.p_value == pytest.approx(reference.binomtest(4, 19).pvalue)
    assert found.interval == paired_difference(4, 15, n=60)
    assert found.value == pytest.approx(11 / 60)
    assert (found.first_mean, found.second_mean) == pytest.approx((45 / 60, 56 / 60))
    assert (found.lost, found.gained, found.n) == (4, 15, 60)


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (3, 3), (0, 6), (9, 2)])
def test_two_sided_exact_mcnemar_is_scipys_binomial_test(lost: int, gained: int) -> None:
    expected = reference.binomtest(lost, lost + gained).pvalue if lost + gained else 1.0
    assert p_changed(lost, gained) == pytest.approx(expected)


def test_exact_mcnemar_errs_at_most_at_its_level() -> None:
    rng = np.random.default_rng(0)
    draws = rng.multinomial(200, [0.1, 0.1, 0.8], size=4000)
    assert np.mean([p_changed(int(a), int(b)) <= 0.05 for a, b, _ in draws]) <= 0.05 + 2 * 0.0035


def test_repeats_and_partial_scores_get_the_bootstrap_and_the_seed_decides() -> None:
    pairs = [_pair(i, (i % 2, 0.0), (1.0, i % 3 == 0)) for i in range(40)]

    found = estimate(pairs, seed=1)

    assert found.method == "bootstrap"
    assert found == estimate(pairs, seed=1)
    assert found.interval != estimate(pairs, seed=2).interval
    assert found.value == pytest.approx(np.mean([pair.difference for pair in pairs]))


@pytest.mark.parametrize(("n", "truth"), [(40, 0.0), (40, 0.1), (150, -0.05)])
def test_bootstrap_interval_covers_and_its_test_keeps_the_level(n: int, truth: float) -> None:
    rng = np.random.default_rng(4)
    runs, covered, rejected = 400, 0, 0
    centre = float(np.mean(np.clip(rng.beta(2, 5, size=1_000_000) + truth, 0, 1))) - 2 / 7
    for _ in range(runs):
        # scores of 5 repeats: skewed, in steps of a fifth
        shift = rng.beta(2, 5, size=n)
        differences = (rng.binomial(5, np.clip(shift + truth, 0, 1)) - rng.binomial(5, shift)) / 5
        found = bootstrap_mean(differences, seed=0, resamples=599)
        covered += found.interval.low <= centre <= found.interval.high
        rejected += found.p_value <= 0.05
    assert 0.925 <= covered / runs <= 0.98
    if truth == 0:
        assert rejected / runs <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / runs)


def test_few_different_values_are_resampled_as_their_counts_with_the_same_result() -> None:
    rng = np.random.default_rng(8)
    steps = rng.binomial(4, 0.5, size=300) / 4 - 0.45
    spread = steps + rng.uniform(-1e-7, 1e-7, size=300)  # the same data, but no two values alike

    by_counts, by_items = bootstrap_mean(steps), bootstrap_mean(spread)

    assert by_counts.interval == pytest.approx(by_items.interval, abs=0.003)
    assert by_counts.p_value == pytest.approx(by_items.p_value, abs=0.01)


def test_clustered_interval_covers_where_the_plain_one_fails() -> None:
    rng = np.random.default_rng(5)
    runs, groups, size = 600, 25, 8
    names = [str(index // size) for index in range(groups * size)]
    clustered = plain = 0
    for _ in range(runs):
        # each group shares most of its difference, as questions on one text do
        shared = np.repeat(rng.choice([-0.5, 0.0, 0.5], size=groups), size)
        differences = np.clip(shared + rng.choice([-0.5, 0.0, 0.5], p=[0.1, 0.8, 0.1], size=groups * size), -1, 1)
        interval = clustered_mean(differences, names).interval
        clustered += interval.low <= 0 <= interval.high
        reach = 1.96 * differences.std(ddof=1) / math.sqrt(len(differences))
        plain += abs(differences.mean()) <= reach
    assert 0.93 <= clustered / runs <= 0.975
    assert plain / runs < 0.7


def test_clustered_error_is_millers_formula_written_as_pairs() -> None:
    differences, names = np.array([0.2, 0.4, -0.1, 0.6, 0.0, 1.0]), ["a", "a", "b", "b", "b", "c"]
    centred = differences - differences.mean()
    same = np.array([[x == y for y in names] for x in names])
    pairwise = float((np.outer(centred, centred) * same).sum()) / len(names) ** 2

    assert clustered_mean(differences, names).error == pytest.approx(math.sqrt(3 / 2 * pairwise))


def test_groups_of_one_item_are_no_groups_and_one_group_shows_nothing() -> None:
    alone = estimate([_pair(i, (0.0,), (1.0,), group=str(i)) for i in range(8)])
    together = estimate([_pair(i, (0.0,), (float(i % 2),), group="text") for i in range(8)])

    assert alone.method == "mcnemar"
    assert together.method == "clustered"
    assert (together.interval, together.p_value, together.detectable) == ((-1.0, 1.0), 1.0, 1.0)


def test_no_difference_anywhere_is_no_proof_of_none() -> None:
    same = [_pair(i, (0.5, 0.5), (0.5, 0.5), group=str(i // 2)) for i in range(40)]

    found = estimate(same)

    assert found.interval.high == -found.interval.low == pytest.approx(reference.beta.ppf(0.975, 1, 20), abs=1e-9)
    assert found.p_value == 1.0


def test_no_items_show_nothing() -> None:
    assert estimate([]).interval == (-1.0, 1.0)
    assert math.isnan(estimate([]).value)


@pytest.mark.parametrize(("n", "discordant_share"), [(200, 0.2), (400, 0.1), (120, 0.4)])
def test_the_stated_difference_is_found_8_times_in_10(n: int, discordant_share: float) -> None:
    rng = np.random.default_rng(6)
    difference = detectable_proportion(n, discordant=round(discordant_share * n))
    gained, lost = (discordant_share + difference) / 2, (discordant_share - difference) / 2
    draws = rng.multinomial(n, [lost, gained, 1 - discordant_share], size=2000)

    found = np.mean([p_changed(int(a), int(b)) <= 0.05 for a, b, _ in draws])

    assert found == pytest.approx(0.8, abs=0.027)  # three standard errors of 2000 draws


def test_even_without_a_flip_few_items_see_little() -> None:
    # all flips go one way then, and six are needed: P(binomial(200, d) >= 6) = 0.8
    least = detectable_proportion(200, discordant=0)
    assert reference.binom.sf(5, 200, least) == pytest.approx(0.8, abs=1e-4)
    assert detectable_proportion(5, discordant=0) == 1.0
    assert detectable_mean(0.0) == detectable_mean(math.inf) == 1.0
    assert detectable_mean(0.02) == pytest.approx((1.959964 + 0.841621) * 0.02)


def test_the_least_difference_is_said_in_words() -> None:
    assert in_words(200, 0.0602).startswith("these 200 items cannot see less than 6.0 points")
    assert in_words(4, 1.0) == "these 4 items cannot see any difference reliably"
