"""Step-level data: a plan that names an operation gets examples whose answers exercise it."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

import pytest
from builders import recipe
from generator_world import BIG, Stage, drops

from mendloop.core.task_hooks import Operational
from mendloop.core.tasks import Task
from mendloop.examples.modular.task import ModularTask
from mendloop.examples.scan.short.task import ShortScanTask
from mendloop.examples.scan.task import ScanTask
from mendloop.v1 import intervention_pb2

FAMILIES = [ScanTask({}), ShortScanTask({}), ModularTask({})]


def stage_of(task: Task, folder: Path, **corpus: object) -> Stage:
    stage = Stage(folder / "artifacts", task=task)
    stage.spec_parts = {"corpus": task.corpus(corpus)[:50], "recipe": recipe(task="t")}
    return stage


def answer(stage: Stage, *, operation: str, count: int = 8) -> intervention_pb2.DataBatchReady:
    plan = stage.plan(((), count))
    plan.items[0].operation = operation
    return stage.answer(plan)


@pytest.mark.parametrize("task", FAMILIES, ids=lambda task: type(task).__name__)
def test_the_operation_that_the_scorer_names_is_one_of_the_answers(task: Task) -> None:
    assert isinstance(task, Operational)
    items = task.items(counts={"search": 60}, seed=0)
    named = 0
    for one in items:
        said = re.sub(r"\d( ;|$)", r"9\1", one.target.replace("I_RUN", "I_WALK").replace("I_LOOK", "I_JUMP"))
        operation = task.score(one, said).wrong_operation
        named += bool(operation)
        assert not operation or operation in task.operations(one.prompt)
    assert named >= 20, "else this test shows nothing"


def test_modular_examples_exercise_the_operation(tmp_path: Path) -> None:
    task = ModularTask({})
    stage = stage_of(task, tmp_path, count=50)

    ready = answer(stage, operation="star")

    rows = stage.rows(ready)
    assert len(rows) == 8
    assert all(" star " in row.prompt and " star " in row.completion for row in rows)
    [dropped] = [count for reason, count in drops(ready, "slice").items() if "exercises 'star'" in reason]
    assert dropped >= 1


def test_scan_short_examples_exercise_the_operation(tmp_path: Path) -> None:
    task = ShortScanTask({})
    stage = stage_of(task, tmp_path, count=50)
    wanted = next(iter(task.operations(next(task.teach((), seed=5)).prompt)))

    ready = answer(stage, operation=wanted)

    assert ready.example_count == 8
    assert all(wanted in task.operations(row.prompt) for row in stage.rows(ready))
    others = [row for row in islice(task.teach((), seed=5), 200) if wanted not in task.operations(row.prompt)]
    assert others, "else nothing was chosen"


def test_an_operation_that_no_example_has_ends_in_an_empty_batch_that_says_why(tmp_path: Path) -> None:
    ready = answer(stage_of(ModularTask({}), tmp_path, count=50), operation="cube")

    assert ready.example_count == 0
    assert set(drops(ready, "slice")) == {"no step of its answer exercises 'cube'"}


def test_a_task_that_cannot_tell_operations_says_so_and_fills_the_slice(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "artifacts")
    plan = stage.plan((BIG, 3))
    plan.items[0].operation = "carry"

    ready = stage.answer(plan)

    assert ready.example_count == 3
    assert list(drops(ready, "slice").values()) == [0]
    assert "cannot tell which examples exercise 'carry'" in next(iter(drops(ready, "slice")))


def test_without_an_operation_the_batch_is_what_it_was(tmp_path: Path) -> None:
    stage = stage_of(ModularTask({}), tmp_path, count=50)

    assert answer(stage, operation="").batch == stage.answer(stage.plan(((), 8))).batch
