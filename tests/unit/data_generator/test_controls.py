"""Control arms: batches of the same count from places that know nothing of what failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import event, recipe
from generator_world import BIG, SMALL, Stage, Sums, drops, sum_of

from mendloop.core.arms import DIRECTLY_SAMPLED, ORACLE, RANDOM
from mendloop.core.errors import InvalidEvent
from mendloop.core.records import fingerprint
from mendloop.core.tasks import matches
from mendloop.data_generator.domain.controls import Drawn, control_sources
from mendloop.data_generator.handlers import on_intervention_planned
from mendloop.v1 import intervention_pb2

POOL = [sum_of(left, right, source="shelf") for left in range(20) for right in range(200, 210)] + [
    sum_of(left, right, source="shelf") for left in range(5) for right in range(5)
]
"""200 rows that are big, and 25 that are the corpus's own."""


def stage(folder: Path, **parts: Any) -> Stage:
    return Stage(folder, spec_parts={"pool": POOL, **parts})


def ordered(
    world: Stage, control: intervention_pb2.ControlArm.ValueType, *orders: Any, arm: str = "control"
) -> intervention_pb2.InterventionPlanned:
    plan = world.plan(*(orders or [((), 30)]), control=control)
    plan.position.arm = arm
    return plan


def test_random_arm_draws_from_the_pool_what_the_corpus_may_hold_too(tmp_path: Path) -> None:
    world = stage(tmp_path)

    ready = world.answer(ordered(world, intervention_pb2.CONTROL_ARM_RANDOM, ((), 150)))

    rows = world.rows(ready)
    held = {row.prompt for row in Sums().corpus({})}
    assert ready.example_count == len({row.prompt for row in rows}) == 150
    assert {row.source for row in rows} == {"pool"}
    assert 0 < sum(row.prompt in held for row in rows) < 25
    assert ready.position.arm == "control"


def test_random_arm_takes_the_first_that_pass_and_no_selection_chooses(tmp_path: Path) -> None:
    world = stage(tmp_path)
    plan = ordered(world, intervention_pb2.CONTROL_ARM_RANDOM)

    ready = world.answer(plan)

    assert drops(ready, "selection") == {}
    assert world.answer(plan).batch == ready.batch


def test_control_is_verified_and_holds_no_evaluation_item(tmp_path: Path) -> None:
    wrong = [sum_of(1, 300 + i, source="shelf") for i in range(40)]
    pool = [*POOL[:40], *(type(row)(row.prompt, "7", row.source, axes=row.axes) for row in wrong)]
    held_out = [fingerprint(row.prompt) for row in POOL[:10]]
    world = stage(tmp_path, pool=pool, fingerprints=held_out)

    ready = world.answer(ordered(world, intervention_pb2.CONTROL_ARM_RANDOM, ((), 80)))

    assert ready.example_count == 30
    assert sum(drops(ready, "verification").values()) == 40
    assert drops(ready, "decontamination") == {"its prompt is an evaluation item": 10}
    assert any("30 of 80 ordered" in reason for reason in drops(ready, "budget"))


def test_directly_sampled_arm_asks_the_teacher_without_a_target(tmp_path: Path) -> None:
    asked: list[Any] = []

    def lesson(conditions: Any, seed: int) -> Any:
        asked.append(list(conditions))
        yield from (sum_of(left, 7) for left in range(30, 50))

    world = stage(tmp_path)
    world.task = Sums(lesson=lesson)

    ready = world.answer(ordered(world, intervention_pb2.CONTROL_ARM_DIRECTLY_SAMPLED))

    sources = [row.source for row in world.rows(ready)]
    assert asked == [[]]
    assert (sources.count("teacher:sums"), sources.count("pool")) == (20, 10)


def test_oracle_arm_stays_in_its_regions_and_leaves_out_what_the_corpus_holds(tmp_path: Path) -> None:
    world = stage(tmp_path)

    ready = world.answer(ordered(world, intervention_pb2.CONTROL_ARM_ORACLE, (BIG, 12), (SMALL, 3)))

    rows = world.rows(ready)
    held = {row.prompt for row in Sums().corpus({})}
    assert [sum(matches(row.axes, region) for row in rows) for region in (BIG, SMALL)] == [12, 3]
    assert not held & {row.prompt for row in rows}
    assert [row.source for row in rows] == ["pool"] * 12 + ["teacher:sums"] * 3


def test_arms_of_a_round_draw_different_examples_and_the_main_one_draws_what_it_always_drew(tmp_path: Path) -> None:
    world = stage(tmp_path)
    alone = world.answer(world.plan((BIG, 8)))

    batches = [
        world.answer(ordered(world, intervention_pb2.CONTROL_ARM_ORACLE, (BIG, 8), arm=arm)).batch.sha256
        for arm in ("oracle", "another")
    ]

    assert len({*batches, alone.batch.sha256}) == 3
    assert world.answer(world.plan((BIG, 8))).batch == alone.batch


def test_no_people_review_a_control(tmp_path: Path) -> None:
    world = stage(tmp_path, recipe=recipe(task="sums", review=True))

    assert world.answer(world.plan((BIG, 8))).awaits_review
    assert not world.answer(ordered(world, intervention_pb2.CONTROL_ARM_RANDOM)).awaits_review


def test_random_arm_without_a_pool_is_empty_and_says_so(tmp_path: Path) -> None:
    world = Stage(tmp_path)

    ready = world.answer(ordered(world, intervention_pb2.CONTROL_ARM_RANDOM))

    assert ready.example_count == 0
    assert any("0 of 30 ordered" in reason for reason in drops(ready, "budget"))


def test_control_arm_of_a_later_version_is_refused(tmp_path: Path) -> None:
    world = stage(tmp_path)
    plan = ordered(world, intervention_pb2.CONTROL_ARM_RANDOM)
    later = intervention_pb2.InterventionPlanned.FromString(
        plan.SerializeToString().replace(b"\xf8\x01\x01", b"\xf8\x01\x63")
    )

    assert later.control == 99
    with pytest.raises(InvalidEvent, match="control arm 99"):
        on_intervention_planned(event(later), ports=world.ports())


def test_a_run_whose_teacher_stands_alone_asks_its_pool_for_the_random_arm_only() -> None:
    teacher = Drawn([], name="teacher")
    names = {
        arm: [s.name for s in control_sources(arm, pool=POOL, teachers=[teacher], asks_pool=False)]
        for arm in (RANDOM, DIRECTLY_SAMPLED, ORACLE)
    }
    assert names == {RANDOM: ["pool"], DIRECTLY_SAMPLED: ["teacher"], ORACLE: ["teacher"]}
