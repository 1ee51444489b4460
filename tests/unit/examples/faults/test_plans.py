"""What each fault does to a plan: values in, values out, nothing trained."""

from __future__ import annotations

import pytest
from fault_family import TinyFamily

from mendloop.core.errors import InvalidRecipe
from mendloop.core.tasks import matches
from mendloop.diagnostician.domain.causes import Cause
from mendloop.examples.faults.catalogue import FAULTS, find_fault
from mendloop.examples.faults.plan import Plan, healthy_plan
from mendloop.examples.faults.planning import Planned, Planting, Spec, plan_faults

FAMILY = TinyFamily()
HEALTHY = healthy_plan(FAMILY, seed=1)


def _planned(*names: str, severity: float = 1.0, seed: int = 1) -> Planned:
    return plan_faults(FAMILY, Spec("tiny", tuple(Planting(name, severity) for name in names), seed))


def _slice_count(plan: Plan) -> int:
    assert plan.conditions
    return sum(matches(row.axes, plan.conditions) for row in plan.corpus)


def test_every_cause_has_a_fault_and_unknown_has_controls() -> None:
    assert {fault.cause for fault in FAULTS} == set(Cause)
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize(
    "name", [fault.name for fault in FAULTS if fault.cause not in (Cause.SCORER_BUG, Cause.EXTRACTION_FAILURE)]
)
def test_each_fault_changes_the_world_and_the_same_seed_changes_it_the_same(name: str) -> None:
    first, second = _planned(name), _planned(name)

    assert first.plan.sha != HEALTHY.sha
    assert first.plan.sha == second.plan.sha


@pytest.mark.parametrize("name", ["unusual-words", "wrapped", "wrong-targets", "cut-off", "flaky-outputs"])
def test_a_fault_of_the_evaluation_trains_what_is_healthy(name: str) -> None:
    assert _planned(name).plan.training_sha == HEALTHY.training_sha


def test_a_missing_slice_has_no_example_left() -> None:
    assert _slice_count(_planned("missing").plan) == 0


def test_a_rare_slice_keeps_under_a_fifth() -> None:
    for severity in (0.1, 1.0):
        plan = _planned("rare", severity=severity).plan
        assert plan.conditions
        before = sum(matches(row.axes, plan.conditions) for row in HEALTHY.corpus)

        assert 0 < _slice_count(plan) < before / 5 + 1


def test_an_unknown_term_is_nowhere_in_the_corpus() -> None:
    planned = _planned("unknown-terms")
    [(_, verb)] = planned.plan.conditions or ()

    assert not any(verb in row.prompt.split() for row in planned.plan.corpus)


def test_wrong_labels_hit_the_share_of_the_slice_and_nothing_else() -> None:
    plan = _planned("wrong-labels", severity=0.5).plan
    before = {row.prompt: row.completion for row in HEALTHY.corpus}
    changed = [row for row in plan.corpus if before[row.prompt] != row.completion]

    assert plan.conditions
    assert all(matches(row.axes, plan.conditions) for row in changed)
    assert len(changed) == round(0.5 * _slice_count(plan))


def test_leaked_items_are_the_only_examples_of_their_slice() -> None:
    plan = _planned("leaked-items").plan
    assert plan.conditions
    inside = {row.prompt for row in plan.corpus if matches(row.axes, plan.conditions)}

    assert inside
    assert inside < {row.prompt for row in plan.items}


def test_forgetting_starts_from_the_healthy_training() -> None:
    plan = _planned("forgotten").plan

    assert plan.start is not None
    assert plan.start.training_sha == HEALTHY.training_sha
    assert _slice_count(plan) == 0


def test_a_short_budget_cuts_the_longest_targets() -> None:
    plan = _planned("cut-off", severity=0.1).plan
    cut = [row for row in plan.items if len(row.target.split()) > plan.max_new_tokens]

    assert 0 < len(cut) < len(plan.items)


def test_two_faults_of_the_items_touch_different_items() -> None:
    plan = _planned("unusual-words", "wrong-targets", severity=0.5).plan
    before = {row.item_id: row for row in HEALTHY.items}
    reworded = {row.item_id for row in plan.items if row.prompt != before[row.item_id].prompt}
    retargeted = {row.item_id for row in plan.items if row.target != before[row.item_id].target}

    assert reworded
    assert retargeted
    assert not reworded & retargeted


def test_two_faults_of_the_data_lie_in_different_slices_and_fail_in_the_whole_set() -> None:
    planned = _planned("missing", "wrong-labels")
    places = [tuple(map(tuple, fault["conditions"])) for fault in planned.faults]  # type: ignore[call-overload]

    assert places[0] != places[1]
    assert planned.plan.conditions == ()


def test_a_fault_of_the_data_and_one_of_the_evaluation_share_their_slice() -> None:
    planned = _planned("missing", "wrong-targets")

    assert planned.faults[0]["conditions"] == planned.faults[1]["conditions"]


def test_a_data_fault_is_never_trained_from_a_checkpoint_that_knows_better() -> None:
    for seed in range(8):
        assert _planned("missing", "eos-masked", seed=seed).plan.start is None


def test_half_of_the_training_faults_begin_with_a_healthy_checkpoint() -> None:
    begun = [_planned("eos-masked", seed=seed).plan.start is not None for seed in range(20)]

    assert 4 < sum(begun) < 16


def test_a_fault_that_does_not_suit_the_family_is_refused() -> None:
    with pytest.raises(InvalidRecipe, match="wrong-scorer cannot be planted in family tiny"):
        _planned("wrong-scorer")


@pytest.mark.parametrize(("name", "severity"), [("missing", 0.0), ("missing", 1.5), ("absent", 1.0)])
def test_a_wrong_spec_is_refused(name: str, severity: float) -> None:
    with pytest.raises(InvalidRecipe):
        Spec("tiny", (Planting(name, severity),), 1)


def test_a_fault_is_found_by_its_cause() -> None:
    assert find_fault("EOS_MASKED").name == "eos-masked"
