"""The twin suite: a gain that is the public items' alone is overfitting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import recipe
from controller_world import BETTER, JUMP, World, only, sealed_counts

from mendloop.controller.domain.judgement import judge_candidate
from mendloop.controller.domain.pairs import Counts, Pair
from mendloop.controller.domain.twins import TWIN_GAP, TWIN_TARGET, TwinCounts, twin_gates
from mendloop.core.errors import InvalidEvent
from mendloop.core.wire import slice_message
from mendloop.v1 import checkpoint_pb2, evaluation_pb2

RULES = {"target_count": 1, "design_effect": 1.0, "alpha": 0.05, "level": 0.05}


def cells(**counts: int) -> TwinCounts:
    """By name: w or r for wrong or right, item before and after, then twin before and after, e.g. wrwr."""
    values = [0] * 16
    for name, count in counts.items():
        values[int("".join("1" if letter == "r" else "0" for letter in name), 2)] = count
    return TwinCounts(tuple(values))


def test_counts_of_items_twins_and_both_after_training_are_read_off_the_cells() -> None:
    counts = cells(wrww=30, wrwr=50, rrrw=5, wwww=15)
    assert counts.items == Counts(100, lost=0, gained=80, both=5)
    assert counts.twins == Counts(100, lost=5, gained=50, both=0)
    assert counts.after == Counts(100, lost=0, gained=35, both=50)
    assert counts.gap == pytest.approx(0.80 - 0.45)


def test_p_value_of_the_gap_is_the_share_of_sign_flips_that_reach_it() -> None:
    assert cells(wrww=3).p_gap() == pytest.approx(1 / 8)
    assert cells(wrww=1, wrrw=1).p_gap() == pytest.approx(1 / 4)  # 1 + 2 of the sums -3, -1, 1, 3
    assert cells(wwwr=2).p_gap() == 1.0
    assert cells(wwww=9).p_gap() == 1.0


def test_gain_that_twins_share_passes_and_one_that_they_do_not_is_vetoed() -> None:
    real = twin_gates([(JUMP, cells(wrwr=50, wrww=10, wwwr=9, wwww=30))], **RULES)
    learnt = twin_gates([(JUMP, cells(wrww=60, wwww=30, wrwr=9))], **RULES)
    assert [(answer.gate, answer.passed) for answer in real] == [(TWIN_TARGET, True), (TWIN_GAP, True)]
    assert [(answer.gate, answer.passed) for answer in learnt] == [(TWIN_TARGET, True), (TWIN_GAP, False)]
    assert "+69.7 points against +9.1 points on their twins" in learnt[1].requirement


def test_no_gain_on_twins_fails_however_large_the_public_gain() -> None:
    answers = twin_gates([(JUMP, cells(wrww=60, wwww=40))], **RULES)
    assert [answer.passed for answer in answers] == [False, False]


def test_honest_candidate_of_a_slice_that_was_chosen_for_its_failures_is_rarely_vetoed() -> None:
    rng = np.random.default_rng(5)
    vetoed = runs = 0
    while runs < 300:
        before, twin_before = rng.random(80) < 0.7, rng.random(80) < 0.7
        if before.mean() > 0.64:  # the search reports it for a bad draw
            continue
        after, twin_after = before | (rng.random(80) < 0.4), twin_before | (rng.random(80) < 0.4)
        table = np.bincount(8 * before + 4 * after + 2 * twin_before + twin_after, minlength=16)
        (_, gap) = twin_gates([(JUMP, TwinCounts(tuple(int(c) for c in table)))], **RULES)
        vetoed += not gap.passed
        runs += 1
    assert vetoed / runs <= 0.02


def test_targets_without_a_twin_do_not_pass_silently() -> None:
    (answer,) = twin_gates([(JUMP, TwinCounts((0,) * 16, missing=90))], **RULES)
    assert not answer.passed
    assert "no item of a target slice has a twin" in answer.requirement


def test_recipe_without_twins_has_no_twin_gate() -> None:
    pairs = [Pair({"verb": ("jump",)}, before=False, after=True)] * 30
    for wanted in (False, True):
        rules = recipe(suite={"axes": ["verb"], "sealed": 0, "twins": wanted})
        answers = judge_candidate(pairs, targets=[JUMP], sealed={}, twins={JUMP: cells(wrwr=30)}, recipe=rules)
        assert any(answer.gate == TWIN_TARGET for answer in answers) is wanted


def test_impossible_cells_are_refused() -> None:
    with pytest.raises(ValueError, match="16 counts"):
        TwinCounts((1, 2))


def _twins(counts: TwinCounts) -> list[evaluation_pb2.TwinComparison]:
    return [evaluation_pb2.TwinComparison(slice=slice_message(list(JUMP)), n=counts.n, counts=counts.cells)]


def test_candidate_that_learnt_the_public_suite_is_rejected_by_its_twins(tmp_path: Path) -> None:
    world = World(tmp_path, suite={"axes": ["verb"], "sealed": 0, "twins": True})
    plan = world.until_plan()
    measured = world.evaluated(world.candidate_ready(plan), BETTER)
    measured.twins.extend(_twins(cells(wrww=78, wwww=22)))
    rejected = only(world.send(world.batched(plan), measured), checkpoint_pb2.CheckpointRejected)
    assert "twins_agree" in rejected.reason


def test_candidate_whose_twins_gain_as_well_is_promoted(tmp_path: Path) -> None:
    world = World(tmp_path, suite={"axes": ["verb"], "sealed": 200, "twins": True})
    plan = world.until_plan()
    measured = world.evaluated(world.candidate_ready(plan), BETTER, sealed=sealed_counts())
    measured.twins.extend(_twins(cells(wrwr=60, wrww=18, wwwr=15, wwww=7)))
    only(world.send(world.batched(plan), measured), checkpoint_pb2.CheckpointPromoted)


def test_event_with_impossible_twins_is_invalid(tmp_path: Path) -> None:
    world = World(tmp_path, suite={"axes": ["verb"], "sealed": 0, "twins": True})
    plan = world.until_plan()
    measured = world.evaluated(world.candidate_ready(plan), BETTER)
    measured.twins.add(slice=slice_message(list(JUMP)), n=3, counts=[3])
    with pytest.raises(InvalidEvent, match="impossible twins"):
        world.send(world.batched(plan), measured)
