"""pass@k and pass^k are unbiased; the noise floor's interval covers the true spread over seeds."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from mendloop.comparison.repeats import noise_floor, passing
from mendloop.core.stats import pass_at_k, pass_power_k


@pytest.mark.parametrize(("correct", "n", "k"), [(0, 5, 3), (2, 5, 3), (5, 5, 5), (1, 6, 6), (4, 6, 2)])
def test_both_are_the_share_of_all_draws_of_k(correct: int, n: int, k: int) -> None:
    draws = list(combinations([True] * correct + [False] * (n - correct), k))

    assert pass_at_k(correct, n, k=k) == pytest.approx(np.mean([any(draw) for draw in draws]))
    assert pass_power_k(correct, n, k=k) == pytest.approx(np.mean([all(draw) for draw in draws]))


def test_both_are_unbiased_where_the_naive_plug_in_is_not() -> None:
    rng = np.random.default_rng(0)
    right = rng.binomial(8, 0.3, size=20_000)

    assert np.mean([pass_at_k(int(c), 8, k=4) for c in right]) == pytest.approx(1 - 0.7**4, abs=0.006)
    assert np.mean([pass_power_k(int(c), 8, k=2) for c in right]) == pytest.approx(0.09, abs=0.004)
    assert np.mean(1 - (1 - right / 8) ** 4) < 1 - 0.7**4 - 0.03


def test_more_draws_than_answers_are_refused() -> None:
    with pytest.raises(ValueError, match="k is 6"):
        pass_at_k(1, 5, k=6)


def test_items_with_fewer_answers_than_k_are_counted_not_used() -> None:
    found = passing({"a": {0: 1.0, 1: 0.0}, "b": {0: 0.0, 1: 0.0}, "c": {0: 1.0}}, k=2)

    assert (found.n, found.left_out_count) == (2, 1)
    assert (found.any_right, found.all_right) == (0.5, 0.0)


def test_pass_interval_covers() -> None:
    rng = np.random.default_rng(1)
    truth, covered = 0.0, 0
    abilities = np.linspace(0.05, 0.95, 7)
    truth = float(np.mean(1 - (1 - abilities) ** 3))
    for _ in range(400):
        ability = rng.choice(abilities, size=80)
        answers = (rng.random((80, 6)) < ability[:, None]).astype(float)
        found = passing({str(i): dict(enumerate(row)) for i, row in enumerate(answers.tolist())}, k=3)
        covered += found.any_right_interval.low <= truth <= found.any_right_interval.high
    assert 0.925 <= covered / 400 <= 0.98


def test_noise_floor_interval_covers_the_true_spread() -> None:
    rng = np.random.default_rng(2)
    ability = rng.uniform(0.1, 0.9, size=200)
    truth = float(np.sqrt((ability * (1 - ability)).sum())) / 200
    covered, sds = 0, []
    for _ in range(400):
        scores = (rng.random((200, 6)) < ability[:, None]).astype(float)
        found = noise_floor({str(i): dict(enumerate(row)) for i, row in enumerate(scores.tolist())})
        assert found is not None
        covered += found.interval.low <= truth <= found.interval.high
        sds.append(found.sd)
    assert 0.925 <= covered / 400 <= 0.98
    assert np.sqrt(np.mean(np.square(sds))) == pytest.approx(truth, rel=0.06)


def test_one_seed_has_no_noise_floor_and_uneven_items_are_left_out() -> None:
    assert noise_floor({"a": {0: 1.0}}) is None
    found = noise_floor({"a": {0: 1.0, 1: 0.0}, "b": {0: 1.0}})
    assert found is not None
    assert (found.n, found.left_out_count, found.seed_count) == (1, 1, 2)
