"""Statistics against known cases and by simulation, not against their own output."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as reference
from scipy.optimize import minimize_scalar

from mendloop.core.stats import (
    benjamini_hochberg,
    clopper_pearson,
    holm,
    p_below,
    p_improved,
    p_lower,
    p_not_inferior,
    paired_difference,
)


@pytest.mark.parametrize(("correct", "n"), [(0, 10), (10, 10), (3, 17), (250, 300)])
def test_exact_interval_is_scipys(correct: int, n: int) -> None:
    expected = reference.binomtest(correct, n).proportion_ci(method="exact")
    assert clopper_pearson(correct, n) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("n", [1, 2, 7, 60, 999, 20_000, 1_000_000])
def test_exact_interval_is_that_of_scipys_beta_distribution(n: int) -> None:
    for correct in {*range(min(n, 30) + 1), *range(max(0, n - 30), n + 1), n // 2, n // 3, 9 * n // 10}:
        low = reference.beta.ppf(0.025, correct, n - correct + 1) if correct else 0
        high = reference.beta.ppf(0.975, correct + 1, n - correct) if correct < n else 1
        assert clopper_pearson(correct, n) == pytest.approx((low, high), rel=1e-10)


def test_interval_of_nothing_is_everything() -> None:
    assert clopper_pearson(0, 0) == (0.0, 1.0)


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="correct is 5 of n = 4"):
        clopper_pearson(5, 4)


def test_exact_interval_covers_at_least_95_percent() -> None:
    rng = np.random.default_rng(0)
    for truth in (0.02, 0.3, 0.8):
        draws = rng.binomial(40, truth, size=4000)
        covered = np.mean([low <= truth <= high for low, high in (clopper_pearson(int(k), 40) for k in draws)])
        assert covered >= 0.95 - 2 * (0.05 * 0.95 / 4000) ** 0.5


def test_p_below_is_the_exact_binomial_test() -> None:
    expected = reference.binomtest(12, 20, 0.8, alternative="less").pvalue
    assert p_below(12, 20, threshold=0.8) == pytest.approx(expected)


def test_false_discovery_correction_is_scipys() -> None:
    p_values = [0.03, 0.001, 0.2, 0.04, 0.9, 0.001]
    assert benjamini_hochberg(p_values) == pytest.approx(list(reference.false_discovery_control(p_values)))
    assert benjamini_hochberg([]) == []


def test_false_discovery_rate_is_held_under_a_mixture() -> None:
    rng = np.random.default_rng(1)
    rates = []
    for _ in range(400):
        shift = np.r_[np.full(5, 3.0), np.zeros(45)]
        p_values = reference.norm.sf(rng.normal(size=50) + shift)
        found = np.array(benjamini_hochberg(list(p_values))) <= 0.1
        rates.append(found[5:].sum() / max(1, found.sum()))
    assert np.mean(rates) <= 0.1


def test_holm_on_the_textbook_case() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_improvement_is_the_exact_mcnemar_test() -> None:
    assert p_improved(2, 12) == pytest.approx(reference.binomtest(12, 14, 0.5, alternative="greater").pvalue)
    assert p_improved(0, 0) == 1.0


@pytest.mark.parametrize(("lost", "gained", "n"), [(0, 1, 44), (9, 1, 50), (3, 30, 60)])
def test_paired_interval_ends_where_a_numerical_score_test_rejects(lost: int, gained: int, n: int) -> None:
    def score(delta: float) -> float:
        # the constrained maximum-likelihood estimate by brute force, where the product code solves a quadratic
        def cost(p_lost: float) -> float:
            p_gained = p_lost + delta
            rest = 1 - p_lost - p_gained
            cells = ((lost, p_lost), (gained, p_gained), (n - lost - gained, rest))
            return -sum(k * np.log(max(p, 1e-12)) for k, p in cells if k)

        bounds = (max(0.0, -delta) + 1e-9, (1 - delta) / 2 - 1e-9)
        p_lost = minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-10}).x
        return float((gained - lost - n * delta) / np.sqrt(n * (2 * p_lost + delta - delta**2)))

    low, high = paired_difference(lost, gained, n=n)
    assert score(low) == pytest.approx(1.95996, abs=0.01)
    assert score(high) == pytest.approx(-1.95996, abs=0.01)


@pytest.mark.parametrize(("p_lost", "p_gained", "n"), [(0.05, 0.05, 120), (0.02, 0.3, 80), (0.1, 0.02, 300)])
def test_paired_interval_covers_95_percent(p_lost: float, p_gained: float, n: int) -> None:
    rng = np.random.default_rng(2)
    truth = p_gained - p_lost
    draws = rng.multinomial(n, [p_lost, p_gained, 1 - p_lost - p_gained], size=2000)
    intervals = [paired_difference(int(lost), int(gained), n=n) for lost, gained, _ in draws]
    covered = np.mean([low <= truth <= high for low, high in intervals])
    assert 0.93 <= covered <= 0.975


def test_non_inferiority_errs_at_most_at_its_level() -> None:
    rng = np.random.default_rng(3)
    margin, n = 0.05, 300
    draws = rng.multinomial(n, [0.08, 0.03, 0.89], size=3000)  # the true loss is the margin itself
    accepted = np.mean(
        [p_not_inferior(int(lost), int(gained), n=n, margin=margin) <= 0.05 for lost, gained, _ in draws]
    )
    assert accepted <= 0.06


def test_no_change_on_many_items_is_non_inferior() -> None:
    assert p_not_inferior(0, 0, n=300, margin=0.05) < 0.001
    assert p_not_inferior(0, 0, n=10, margin=0.05) > 0.05


@pytest.mark.parametrize(
    ("correct", "n", "other_correct", "other_n"), [(3, 10, 8, 10), (0, 5, 40, 40), (50, 60, 9, 12)]
)
def test_lower_is_fishers_exact_test(correct: int, n: int, other_correct: int, other_n: int) -> None:
    table = [[correct, n - correct], [other_correct, other_n - other_correct]]
    expected = reference.fisher_exact(table, alternative="less").pvalue
    assert p_lower(correct, n, other_correct=other_correct, other_n=other_n) == pytest.approx(expected)


def test_lower_than_nothing_is_never_shown() -> None:
    assert p_lower(0, 10, other_correct=0, other_n=0) == 1.0
