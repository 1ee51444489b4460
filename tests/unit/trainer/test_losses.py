"""The loss curve and divergence."""

from __future__ import annotations

import json
import math

import pytest

from mendloop.core.errors import Permanent
from mendloop.trainer.domain.losses import Diverged, LossCurve, curve_interval


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


def test_twenty_losses_in_a_row_above_guessing_and_the_start_are_divergence() -> None:
    curve = LossCurve(every=10, vocabulary_size=30_000)  # guessing costs 10.3: twice that is never reached
    curve.add([0.5] * 5 + [12.0] * 19)

    with pytest.raises(Diverged, match=r"20 losses in a row above 10.3 at step 25, 0.5 at step 1") as caught:
        curve.add([12.0])

    assert (caught.value.cause, caught.value.step) == ("diverged", 25)


def test_a_climb_that_ends_is_no_divergence_even_over_a_crash() -> None:
    curve = LossCurve(every=10, vocabulary_size=30_000)
    curve.add([0.5] * 5 + [12.0] * 19 + [0.6])

    resumed = LossCurve(every=10, vocabulary_size=30_000, state=json.loads(json.dumps(curve.state())))
    resumed.add([12.0] * 19)

    assert resumed.points()[-1][0] == 44


def test_gradient_norms_are_kept_by_their_largest_and_a_bad_one_ends_the_training() -> None:
    curve = LossCurve(every=2, vocabulary_size=30)
    curve.add_norms([1.0, 3.0, 2.0])
    curve.add([3.0, 3.0, 3.0])

    assert curve.norms() == ((2, 3.0), (3, 2.0))
    curve.add_norms([math.inf])
    with pytest.raises(Diverged, match=r"the gradient norm became inf at step 4; last losses 3, 3, 3") as caught:
        curve.add([])
    assert (caught.value.cause, caught.value.step) == ("not_finite", 4)
    assert curve.norms()[-1] == (4, math.inf)


def test_an_older_resume_point_knows_no_norms_and_goes_on() -> None:
    old = {"points": [[2, 2.5]], "pending": [2.0], "recent": [3.0, 2.0, 2.0], "first": 3.0, "step": 3}

    curve = LossCurve(every=2, vocabulary_size=30, state=old)
    curve.add([1.0])

    assert curve.points() == ((2, 2.5), (4, 1.5))


@pytest.mark.parametrize(("step_count", "every"), [(1, 1), (60, 1), (200, 4), (5000, 10)])
def test_points_are_at_most_ten_steps_apart(step_count: int, every: int) -> None:
    assert curve_interval(step_count) == every
