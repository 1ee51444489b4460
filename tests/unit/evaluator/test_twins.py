"""Twins of weak items are measured with both checkpoints, once, and only their counts leave."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import run_spec
from evaluator_world import BASE, CANDIDATE, FakeModel, World

from mendloop.core.records import Item
from mendloop.core.twins import twin_id
from mendloop.core.wire import artifact_ref, conditions_of
from mendloop.v1 import common_pb2, evaluation_pb2


def _twin(item: Item, number: int) -> Item:
    return Item(twin_id(item.item_id, number), f"{item.prompt} fresh {number}", item.target, "sealed", axes=item.axes)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """`jump` is weak; every item but the first `jump` has a twin; the candidate knows a third of its twins."""
    made = World(tmp_path, knows=("walk", "look", "run"))
    first = next(item for item in made.items if item.axes["verb"] == ("jump",))
    twins = [_twin(item, number) for number in (1, 2) for item in made.items if item is not first]
    made.spec = run_spec(
        made.store,
        sealed_store=made.sealed_store,
        recipe=made.spec.recipe,
        items=made.items,
        sealed=made.sealed,
        twins=twins,
    )
    known = [twin for at, twin in enumerate(twins) if at % 3 == 0 or twin.axes["verb"] != ("jump",)]
    for checkpoint, answers in ((BASE, []), (CANDIDATE, known)):
        model = made.loader.models[checkpoint.sha256]
        model.answers.update({made.spec.prompt(twin.prompt): twin.target for twin in answers})
    made.measured(made.ready())
    return made


def _asked_twins(model: FakeModel) -> list[str]:
    return [prompt for prompt in model.asked if "fresh" in prompt]


def test_candidate_and_baseline_are_measured_on_this_rounds_twins_of_weak_items(world: World) -> None:
    out = world.measured(world.candidate())
    (row,) = next(e.message for e in out if isinstance(e.message, evaluation_pb2.EvalCompleted)).twins
    jumps = [item for item in world.items if item.axes["verb"] == ("jump",)]
    assert conditions_of(row.slice) == (("verb", "jump"),)
    assert (row.n, row.missing, sum(row.counts)) == (len(jumps) - 1, 1, len(jumps) - 1)
    assert sum(row.counts[cell] for cell in range(16) if cell & 2) == 0  # the baseline knows no twin
    assert 0 < sum(row.counts[cell] for cell in range(16) if cell & 1) < row.n
    for checkpoint in (BASE, CANDIDATE):
        asked = _asked_twins(world.loader.models[checkpoint.sha256])
        assert len(asked) == row.n
        assert all("fresh 1" in prompt for prompt in asked)


def test_twins_cost_is_metered(world: World) -> None:
    out = world.measured(world.candidate())
    completed = next(e.message for e in out if isinstance(e.message, evaluation_pb2.EvalCompleted))
    assert completed.metering.token_count == 2 * (len(world.items) + len(world.sealed) + 2 * completed.twins[0].n)


def test_base_checkpoint_and_run_without_twins_measure_none(world: World, tmp_path: Path) -> None:
    assert _asked_twins(world.loader.models[BASE.sha256]) == []
    plain = World(tmp_path / "plain", knows=("walk", "look", "run"))
    plain.measured(plain.ready())
    out = plain.measured(plain.candidate())
    assert not next(e.message for e in out if isinstance(e.message, evaluation_pb2.EvalCompleted)).twins


def test_second_round_measures_other_twins(world: World) -> None:
    world.measured(world.candidate())
    world.measured(world.candidate(position=common_pb2.RunPosition(run_id="run-1", round=2)))
    asked = _asked_twins(world.loader.models[CANDIDATE.sha256])
    assert {"fresh 1" in prompt for prompt in asked} == {True, False}
    assert len(asked) == len(set(asked))


def test_baseline_that_was_not_measured_on_the_suite_gives_no_twins(world: World) -> None:
    other = world.candidate(baseline=artifact_ref(CANDIDATE))
    other.baseline.sha256 = "f" * 64
    out = world.measured(other)
    assert not next(e.message for e in out if isinstance(e.message, evaluation_pb2.EvalCompleted)).twins
