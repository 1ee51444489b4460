"""A control arm's candidate is measured on the open items like any other, and on nothing that decides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from builders import item
from evaluator_world import CANDIDATE, World

from mendloop.artifacts.tables import put_rows
from mendloop.core.records import Item
from mendloop.core.twins import twin_id
from mendloop.v1 import common_pb2

CONTROL = common_pb2.RunPosition(run_id="run-1", round=1, arm="random")


def test_control_sees_neither_sealed_items_nor_twins(tmp_path: Path) -> None:
    world = World(tmp_path, knows=("walk", "look", "run"))
    twins = [item(twin_id(i.item_id, 1), prompt=f"twin of {i.prompt}", verb="jump") for i in world.items]
    world.spec = replace(world.spec, twins=put_rows(world.sealed_store, twins, kind=Item))
    world.measured(world.ready())

    (completed,) = world.measured(world.candidate(position=CONTROL, diagnosis_wanted=False))

    asked = world.loader.models[CANDIDATE.sha256].asked
    assert sorted(asked) == sorted(world.spec.prompt(i.prompt) for i in world.items)
    assert (list(completed.message.sealed), list(completed.message.twins)) == ([], [])
    assert completed.message.accuracy.n == 360
    assert completed.message.metering.token_count == 2 * 360


def test_control_that_became_the_main_arms_checkpoint_gets_an_answer_of_its_own(tmp_path: Path) -> None:
    world = World(tmp_path, knows=("walk", "look", "run"))
    world.measured(world.ready())
    (control,) = world.measured(world.candidate(position=CONTROL, diagnosis_wanted=False))
    (main,) = world.measured(world.candidate(diagnosis_wanted=False))

    assert control.message.outcomes == main.message.outcomes
    assert control.message.evaluation_id == main.message.evaluation_id
    assert control.identity != main.identity
    assert len(main.message.sealed) > 0
