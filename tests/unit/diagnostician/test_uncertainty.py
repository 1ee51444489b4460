"""Intervals against simulation and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mendloop.core.stats import clopper_pearson
from mendloop.diagnostician.domain.uncertainty import (
    Estimate,
    attributable_share,
    bootstrap_ratio,
    difference,
    estimate,
)


def _share(hits: int, n: int) -> Estimate:
    return estimate(hits / n, clopper_pearson(hits, n))


def test_the_interval_of_a_difference_covers_at_least_95_percent() -> None:
    rng = np.random.default_rng(1)
    first, second, n = 0.8, 0.3, 24
    found = [
        difference(_share(a, n), _share(b, n)) for a, b in rng.binomial(n, (first, second), size=(800, 2)).tolist()
    ]
    covered = sum(row.low <= first - second <= row.high for row in found) / len(found)
    assert covered >= 0.95


def test_attributable_share_pairs_the_ends_of_the_rates() -> None:
    found = attributable_share(Estimate(0.5, 0.4, 0.6), Estimate(0.1, 0.05, 0.2))
    assert (found.value, found.low, found.high) == pytest.approx((0.8, 0.5, 1 - 0.05 / 0.6))


def test_attributable_share_is_zero_where_the_others_fail_as_often() -> None:
    assert attributable_share(Estimate(0.5, 0.4, 0.6), Estimate(0.5, 0.4, 0.6)).value == 0


def test_the_bootstrap_interval_of_a_mean_covers_about_95_percent() -> None:
    rng = np.random.default_rng(2)
    samples = rng.exponential(size=(300, 64))
    found = [bootstrap_ratio(row.tolist(), [1] * 64, seed=at) for at, row in enumerate(samples)]
    covered = sum(row.low <= 1.0 <= row.high for row in found) / len(found)
    assert 0.88 <= covered <= 0.98


def test_the_bootstrap_is_the_same_for_the_same_seed_and_weighs_by_tokens() -> None:
    sums, counts = [1.0, 20.0, 3.0, 2.0, 0.5], [1, 10, 3, 1, 1]
    assert bootstrap_ratio(sums, counts, seed=3) == bootstrap_ratio(sums, counts, seed=3)
    assert bootstrap_ratio(sums, counts, seed=3).value == pytest.approx(26.5 / 16)
