"""The data generator on SCAN's own task family, as a run uses it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from generator_world import Stage, drops

from mendloop.core.records import Example, fingerprint
from mendloop.core.tasks import find_task
from mendloop.data_generator.domain.collection import Limits

JUMP = (("verb", "jump"),)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    task = find_task("scan", {})
    items = task.items(counts={"search": 600, "confirm": 300, "sealed": 300}, seed=0)
    marks = {fingerprint(item.prompt) for item in items}
    corpus = [row for row in task.corpus({"split": "add_prim_jump"}) if fingerprint(row.prompt) not in marks]
    parts = {"corpus": corpus, "fingerprints": sorted(marks)}
    return Stage(tmp_path / "artifacts", task=task, limits=Limits(), spec_parts=parts)


def test_sixty_four_jump_commands_are_new_right_and_no_evaluation_item(stage: Stage) -> None:
    ready = stage.answer(stage.plan((JUMP, 64)))

    rows = stage.rows(ready)
    marks = {fingerprint(row.prompt) for row in rows}
    assert ready.example_count == len(rows) == len(marks) == 64
    assert all("jump" in row.prompt.split() and row.axes["verb"] for row in rows)
    assert all(stage.task.verify(row.prompt, row.completion) for row in rows)
    assert not marks & set(stage.spec_parts["fingerprints"])
    assert sum(row.count for row in ready.drops) < 64  # a teacher is asked for what is needed, not for all that it has


def test_order_beyond_the_grammar_gets_all_that_is_new_and_no_evaluation_item(stage: Stage) -> None:
    ready = stage.answer(stage.plan((JUMP, 20_000)))

    assert drops(ready, "near-duplicate") == {}
    assert drops(ready, "duplicate") == {"its prompt is in the corpus": 1}  # the bare word
    [item_count] = drops(ready, "decontamination").values()
    assert item_count > 100
    assert sum(row.count for row in ready.drops) + ready.example_count == 7_707


def test_a_pool_of_wrong_answers_is_refused_and_the_teacher_fills_in(stage: Stage) -> None:
    wrong = [Example("jump twice", "I_JUMP", "web"), Example("jump thrice", "I_WALK I_WALK I_WALK", "web")]
    stage.spec_parts |= {"pool": [replace(row, axes=stage.task.annotate(row.prompt)) for row in wrong]}
    stage.limits = Limits(survivors=50)

    ready = stage.answer(stage.plan((JUMP, 8)))

    assert drops(ready, "verification") == {"the verifier does not confirm the answer": 2}
    assert [row.source for row in stage.rows(ready)] == ["teacher:sums"] * 8  # named after the recipe's task
