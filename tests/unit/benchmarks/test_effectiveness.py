"""The arithmetic of benchmarks/effectiveness.py: known cases and simulations."""

from __future__ import annotations

import math
import random
from importlib import import_module
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def scores() -> ModuleType:
    return import_module("effectiveness_scores")


@pytest.fixture(scope="module")
def scale() -> ModuleType:
    return import_module("effectiveness_scale")


@pytest.fixture(scope="module")
def mixing() -> ModuleType:
    return import_module("effectiveness_mixing")


def test_five_seeds_that_all_agree_cannot_reach_the_five_percent_but_six_can(scores: ModuleType) -> None:
    assert scores.p_sign_flip([0.1, 0.2, 0.3, 0.2, 0.1]) == 2 / 32
    assert scores.p_sign_flip([0.1, 0.2, 0.3, 0.2, 0.1, 0.4]) == 2 / 64


def test_sign_flip_counts_every_assignment_that_is_as_extreme(scores: ModuleType) -> None:
    # of the 8 signs of (3, 2, -1): sums 4, 6, 0, 2, 0, 2, -6 ... : |sum| >= 4 in 4 of 8
    assert scores.p_sign_flip([3.0, 2.0, -1.0]) == 4 / 8


def test_without_any_difference_the_p_value_is_one(scores: ModuleType) -> None:
    assert scores.p_sign_flip([0.0] * 8) == 1.0


def test_sign_flip_test_rejects_no_more_than_its_rate_where_arms_are_alike(scores: ModuleType) -> None:
    rng = random.Random(0)

    rejected = sum(scores.p_sign_flip([rng.gauss(0, 1) for _ in range(8)]) < 0.05 for _ in range(800))

    assert 0.02 <= rejected / 800 <= 0.07


def test_interval_of_a_mean_is_students(scores: ModuleType) -> None:
    found = scores.estimate([0.1, 0.2, 0.3])

    half = 4.302653 * 0.1 / math.sqrt(3)
    assert found == pytest.approx((0.2, 0.2 - half, 0.2 + half), abs=1e-6)


def test_a_single_seed_has_no_interval(scores: ModuleType) -> None:
    assert scores.estimate([0.4]) == (0.4, -math.inf, math.inf)


def test_share_of_the_oracle_covers_the_truth_as_often_as_it_says(scores: ModuleType) -> None:
    rng, covered, rounds = random.Random(1), 0, 600
    for _ in range(rounds):
        common = [rng.gauss(0, 0.05) for _ in range(8)]
        ours = [0.4 + shared + rng.gauss(0, 0.05) for shared in common]
        oracle = [0.5 + shared + rng.gauss(0, 0.05) for shared in common]
        share = scores.share_of(ours, oracle)
        covered += share.low <= 0.8 <= share.high

    assert 0.92 <= covered / rounds <= 0.98


def test_a_constant_share_is_found_exactly(scores: ModuleType) -> None:
    share = scores.share_of([0.35, 0.4, 0.45], [0.7, 0.8, 0.9])

    assert share.mean == pytest.approx(0.5)
    assert share.low == pytest.approx(0.5, abs=1e-6)
    assert share.high == pytest.approx(0.5, abs=1e-6)


def test_share_of_an_oracle_that_gains_nothing_is_unbounded(scores: ModuleType) -> None:
    share = scores.share_of([0.3, 0.2, 0.4], [0.1, -0.1, 0.05])

    assert (share.low, share.high) == (-math.inf, math.inf)


def test_parts_are_weighted_back_to_the_tasks_own_shares(scores: ModuleType) -> None:
    # healthy 9 of 10, first weakness 1 of 10, second 5 of 10, both 0 of 5
    parts = [(9, 10), (1, 10), (5, 10), (0, 5)]

    found = scores.accuracies(parts, [0.6, 0.2, 0.1, 0.1])

    first, second = 0.1 * 0.2 / 0.3, 0.5 * 0.1 / 0.2
    assert found.targets == pytest.approx((first + second) / 2)
    assert found.overall == pytest.approx(0.9 * 0.6 + 0.1 * 0.2 + 0.5 * 0.1)
    assert found.healthy == 0.9


def test_a_part_that_no_item_has_counts_nowhere(scores: ModuleType) -> None:
    found = scores.accuracies([(8, 10), (1, 2), (1, 4), (0, 0)], [0.8, 0.1, 0.1, 0.0])

    assert found.targets == pytest.approx((0.5 + 0.25) / 2)


def test_a_weakness_without_fresh_items_is_refused(scores: ModuleType) -> None:
    with pytest.raises(ValueError, match="nothing to measure"):
        scores.accuracies([(8, 10), (0, 0), (1, 4), (0, 0)], [0.8, 0.1, 0.1, 0.0])


def test_ours_is_compared_with_a_control_seed_by_seed(scores: ModuleType) -> None:
    ours = [_cell(scores, seed, "mendloop", gain) for seed, gain in enumerate([0.5, 0.3, 0.4, 0.6, 0.5, 0.4])]
    control = [_cell(scores, seed, "random", gain) for seed, gain in enumerate([0.2, 0.1, 0.1, 0.2, 0.3, 0.2])]

    row = scores.arm_row(control, ours)

    assert row.gain.mean == pytest.approx(1.1 / 6)
    assert row.ours_more.difference.mean == pytest.approx(1.6 / 6)
    assert row.ours_more.p == 2 / 64


def test_other_seeds_are_no_pairs(scores: ModuleType) -> None:
    with pytest.raises(ValueError, match="same seeds"):
        scores.arm_row([_cell(scores, 1, "random", 0.1)], [_cell(scores, 2, "mendloop", 0.1)])


@pytest.mark.parametrize(
    ("ours", "loss", "passes"),
    [(0.5, 0.005, True), (0.5, 0.02, False), (0.2, 0.005, False), (0.38, 0.005, False)],
    ids=["all bars", "forgets", "no better than random", "under 80 % of the oracle"],
)
def test_bars_ask_for_all_of_it(scores: ModuleType, ours: float, loss: float, passes: bool) -> None:
    gains = {"mendloop": ours, "random": 0.2, "direct": 0.2, "oracle": 0.5}
    cells = {
        arm: [_cell(scores, seed, arm, gain + 0.001 * seed * (arm == "oracle"), loss=loss) for seed in range(6)]
        for arm, gain in gains.items()
    }
    rows = {arm: scores.arm_row(own, cells["mendloop"]) for arm, own in cells.items()}
    share = scores.share_of([c.gain for c in cells["mendloop"]], [c.gain for c in cells["oracle"]])

    bars = scores.bars_of(rows, share=share, ours="mendloop", controls=("random", "direct"))

    assert bars.passes is passes


def test_compute_of_the_loop_counts_both_trainings_and_the_search(scores: ModuleType, scale: ModuleType) -> None:
    small = [_cell(scores, 0, "base", 0.0, facts={"parameters": 10, "tokens": 100, "search_tokens": 30})]
    looped = [_cell(scores, 0, "mendloop", 0.4, facts={"tokens": 20})]
    large = [_cell(scores, 0, "base", 0.1, facts={"parameters": 100, "tokens": 100})]

    row = scale.scale_row(looped, small, large)

    assert row.compute_share == pytest.approx((6 * 10 * 120 + 2 * 10 * 30) / (6 * 100 * 100))
    assert row.reaches_compute
    assert row.reaches_score


def test_replayed_examples_are_steered_to_the_exact_number_of_tokens(mixing: ModuleType) -> None:
    lengths, rng = [15, 17, 24, 26], random.Random(0)
    chosen = [lengths[at] for at in mixing.cycled(4, 200, rng=rng)]

    for total in (sum(chosen), sum(chosen) - 1, sum(chosen) + 300):
        places = mixing.steer(chosen, lengths, total=total, rng=rng)
        kept = (own if other is None else lengths[other] for own, other in zip(chosen, places, strict=True))
        assert sum(kept) == total


def test_tokens_that_no_example_can_reach_are_an_error(
    mixing: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(mixing, "STEER_TRIES", 1_000)

    with pytest.raises(ValueError, match="tokens away"):
        mixing.steer([4, 6, 8], [4, 6, 8], total=19, rng=random.Random(0))


def test_replay_takes_every_example_equally_often(mixing: ModuleType) -> None:
    drawn = mixing.cycled(5, 15, rng=random.Random(0))

    assert sorted(drawn) == sorted([*range(5)] * 3)


def _cell(
    scores: ModuleType,
    seed: int,
    arm: str,
    gain: float,
    *,
    loss: float = 0.0,
    facts: dict[str, int] | None = None,
) -> object:
    told = facts if facts is not None else {"examples": 32, "weak_shares": [0.5, 0.5]}
    before, after = scores.Accuracy(0.1, 0.6, 0.95), scores.Accuracy(0.1 + gain, 0.6 + gain / 2, 0.95 - loss)
    return scores.Cell("facts", seed, 32, arm, before, after, told)
