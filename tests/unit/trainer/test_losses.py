"""The loss curve and divergence."""

from __future__ import annotations

import json
import math

import pytest

from mendloop.core.errors import Permanent
from mendloop.trainer.domain.losses import LossCurve, curve_interval


def test_a_point_is_the_mean_of_the_steps_since_the_last_one() -> None:
    curve = LossCurve(every=2, vocabulary_size=30)

    curve.add([3.0, 2.0, 2.0, 1.0, 0.5])

    assert curve.points() == ((2, 2.5), (4, 1.5), (5, 0.5))


def test_a_curve_goes_on_from_its_json_as_if_nothing_had_happened() -> None:
    losses = [3.1, 2.7, 1.9, 0.1 + 0.2, 1.1, 0.9, 0.8]
    whole = LossCurve(every=3, vocabulary_size=30)
    whole.add(losses)
    begun = LossCurve(every=3, vocabulary_size=30)
    begun.add(losses[:4])

    resumed = LossCurve(every=3, vocabulary_size=30, state=json.loads(json.dumps(begun.state())))
    resumed.add(losses[4:])

    assert resumed.points() == whole.points()
    assert resumed.state() == whole.state()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_training_with_step_and_last_losses(bad: float) -> None:
    curve = LossCurve(every=10, vocabulary_size=30)
    curve.add([3.0, 2.5])

    with pytest.raises(Permanent, match=r"at step 3; last losses 3, 2\.5, (nan|inf); lower learning_rate"):
        curve.add([bad])


def test_a_mean_far_above_guessing_and_the_start_is_divergence() -> None:
    curve = LossCurve(every=2, vocabulary_size=30)  # guessing costs ln 30 = 3.4

    with pytest.raises(Permanent, match=r"diverged: mean loss 50 at step 4, 3 at step 1"):
        curve.add([3.0, 3.0, 40.0, 60.0])


def test_one_spike_or_a_bad_start_is_no_divergence() -> None:
    spike = LossCurve(every=10, vocabulary_size=30)
    spike.add([0.2] * 9 + [40.0])
    bad_start = LossCurve(every=2, vocabulary_size=30)
    bad_start.add([20.0, 21.0])

    assert spike.points() == ((10, pytest.approx(4.18)),)
    assert bad_start.points() == ((2, 20.5),)


@pytest.mark.parametrize(("step_count", "every"), [(1, 1), (60, 1), (200, 4), (5000, 10)])
def test_points_are_at_most_ten_steps_apart(step_count: int, every: int) -> None:
    assert curve_interval(step_count) == every
