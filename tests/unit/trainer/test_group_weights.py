"""How group DRO's weights move with losses, and which examples make a group."""

from __future__ import annotations

import json
import math

import pytest
from pydantic import ValidationError

from mendloop.core.group_settings import GroupDroSettings
from mendloop.core.recipe import TrainSettings
from mendloop.trainer.domain.group_weights import NO_GROUP, GroupWeights, group_of, reason_against


def _weights(*, rate: float = 0.5, smoothing: float = 0.0, count: int = 2) -> GroupWeights:
    settings = GroupDroSettings(axis="rule", rate=rate, smoothing=smoothing)
    weights = GroupWeights([f"g{at}" for at in range(count)], settings=settings)
    weights.begin([1.0] * count)
    return weights


def test_a_step_multiplies_by_the_exponent_of_the_excess_and_mixes_the_uniform_in() -> None:
    weights = _weights(smoothing=0.1, count=3)

    found = weights.update([3.0, 2.0, 0.5])  # below its reference is no excess

    raised = [math.exp(1.0), math.exp(0.5), 1.0]
    assert found == pytest.approx([0.9 * value / sum(raised) + 0.1 / 3 for value in raised])
    assert weights.means() == pytest.approx(found)


def test_an_absent_group_keeps_its_weight_beside_one_without_excess() -> None:
    weights = _weights(count=3)

    found = weights.update([None, 1.0, 2.0])

    assert found[0] == found[1] < found[2]


def test_huge_losses_overflow_nothing_and_smoothing_loses_no_group() -> None:
    weights = _weights(rate=10.0, smoothing=0.01)

    for _ in range(50):
        found = weights.update([1e6, 1.0])

    assert sum(found) == pytest.approx(1)
    assert found[1] == pytest.approx(0.005)


def test_weights_go_on_from_their_state_bit_by_bit() -> None:
    weights, losses = _weights(smoothing=0.001), [[2.0, 1.5], [None, 1.7], [1.1, 0.2]]
    weights.update(losses[0])
    settings = GroupDroSettings(axis="rule", rate=0.5, smoothing=0.001)

    later = GroupWeights(weights.groups, settings=settings, state=json.loads(json.dumps(weights.state())))

    assert [later.update(some) for some in losses[1:]] == [weights.update(some) for some in losses[1:]]
    assert later.means() == weights.means()


def test_several_values_are_a_group_of_their_own_and_no_value_is_one_too() -> None:
    assert group_of({"verb": ("walk", "jump")}, axis="verb") == "jump+walk"
    assert group_of({"verb": ("walk",)}, axis="other") == NO_GROUP


def test_an_axis_that_separates_nothing_is_a_reason_against() -> None:
    assert "none of the 3 examples has a value on the axis 'rule'" in reason_against([NO_GROUP] * 3, axis="rule")
    assert "one group cannot be weighed" in reason_against(["a", "a"], axis="rule")
    assert reason_against(["a", NO_GROUP], axis="rule") == ""


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"objective": "dpo"}, "DPO learns from pairs"), ({"packing": True}, "set packing to false")],
)
def test_settings_that_group_dro_cannot_go_with_are_refused(settings: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        TrainSettings.model_validate({**settings, "group_dro": {"axis": "rule"}})


@pytest.mark.parametrize("wrong", [{"rate": 0}, {"smoothing": 1.0}, {"axis": ""}, {"speed": 1}])
def test_impossible_settings_of_group_dro_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GroupDroSettings.model_validate({"axis": "rule", **wrong})
