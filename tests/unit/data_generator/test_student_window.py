"""The pass-rate window: a candidate is kept where the failing checkpoint solves it sometimes, where that applies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from builders import NO_ARTIFACT, example, recipe, run_spec
from generator_world import BIG, ListedSource, Stage, drops, sum_of
from tiny_models import WORDS, save, tiny_llama, word_tokenizer

from mendloop.artifacts.store import ArtifactStore
from mendloop.core.errors import InvalidRecipe
from mendloop.core.recipe import Recipe
from mendloop.core.teaching_settings import StudentWindow
from mendloop.data_generator.adapters.student import CheckpointStudent
from mendloop.data_generator.domain.window import PassRateWindow
from mendloop.models.checkpoint import save_checkpoint
from mendloop.models.transformers_backend import load_model
from mendloop.v1 import diagnosis_pb2, intervention_pb2


@dataclass
class Student:
    """Solves add N M in N - 200 of 8 draws."""

    token_count: int = 0
    asked: list[str] = field(default_factory=list)

    def answers(self, prompts: Sequence[str], *, temperature: float, seed: int) -> list[str]:
        self.asked += prompts
        self.token_count += 2 * len(prompts)
        _, left, right = prompts[0].split()
        right_count = int(left) - 200
        return [str(int(left) + int(right)) if at < right_count else "no number" for at in range(len(prompts))]


def stage_of(folder: Path, *, student: Student | None) -> Stage:
    stage = Stage(folder / "artifacts", student=student)
    stage.sources = [ListedSource([sum_of(200 + solved, 3) for solved in range(9)])]
    stage.spec_parts = {"recipe": recipe(task="sums", student_window={})}
    return stage


def answer(
    stage: Stage, *, cause: diagnosis_pb2.Cause.ValueType = diagnosis_pb2.CAUSE_REASONING_GAP
) -> intervention_pb2.DataBatchReady:
    plan = stage.plan((BIG, 20))
    plan.items[0].cause = cause
    return stage.answer(plan)


def test_only_what_the_student_solves_sometimes_is_kept(tmp_path: Path) -> None:
    student = Student()
    stage = stage_of(tmp_path, student=student)

    ready = answer(stage)

    assert {row.prompt for row in stage.rows(ready)} == {f"add {200 + solved} 3" for solved in range(1, 8)}
    assert drops(ready, "student") == {
        "the student solves it too seldom (pass rate below 0.125 in 8 draws)": 1,
        "the student solves it already (pass rate above 0.875 in 8 draws)": 1,
    }
    assert ready.metering.token_count == 2 * 8 * 9


@pytest.mark.parametrize("cause", [diagnosis_pb2.CAUSE_DATA_MISSING, diagnosis_pb2.CAUSE_UNSPECIFIED])
def test_where_the_data_is_missing_the_student_is_not_asked_and_the_event_says_so(
    tmp_path: Path, cause: diagnosis_pb2.Cause.ValueType
) -> None:
    student = Student()

    ready = answer(stage_of(tmp_path, student=student), cause=cause)

    assert (ready.example_count, student.asked) == (9, [])
    [(reason, count)] = drops(ready, "student").items()
    assert count == 0
    assert "pass rates are not asked for: its cause is" in reason


def test_without_a_window_in_the_recipe_the_student_is_not_asked(tmp_path: Path) -> None:
    student = Student()
    stage = stage_of(tmp_path, student=student)
    stage.spec_parts = {}

    assert answer(stage).example_count == 9
    assert student.asked == []


def test_candidates_that_fail_an_earlier_check_cost_no_draws(tmp_path: Path) -> None:
    student = Student()
    stage = stage_of(tmp_path, student=student)
    stage.sources = [ListedSource([example("add 203 1", completion="7"), sum_of(1, 1), sum_of(9, 9)])]

    assert answer(stage).example_count == 0
    assert student.asked == []


def test_a_service_that_loads_no_checkpoint_refuses_a_window(tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipe, match="student_window asks the checkpoint that failed"):
        answer(stage_of(tmp_path, student=None))


@pytest.mark.parametrize(("right", "is_kept"), [(0, False), (1, True), (4, True), (7, True), (8, False)])
def test_the_ends_of_the_window_belong_to_it(right: int, is_kept: bool) -> None:
    window = PassRateWindow(
        0.125, 0.875, lambda prompt: ["1"] * right + ["0"] * (8 - right), lambda row, said: said == "1"
    )

    assert (window.objection(example()) == "") == is_kept


@pytest.mark.parametrize("fault", [{"low": 0.9, "high": 0.1}, {"causes": ["bad weather"]}, {"temperature": 0}])
def test_an_impossible_window_is_refused(fault: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"exchange them|known are|greater than 0"):
        StudentWindow.model_validate(fault)
    assert Recipe.model_validate(recipe(student_window={}).model_dump()).student_window == StudentWindow()


def test_a_stored_checkpoint_draws_answers_that_its_seed_fixes(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "artifacts")
    saved = save_checkpoint(store, save(tmp_path / "model", tiny_llama(len(WORDS)), word_tokenizer()))
    loads: list[Path] = []

    def load(directory: Path) -> object:
        loads.append(directory)
        return load_model(directory)

    spec = run_spec(store, base=NO_ARTIFACT)
    student = CheckpointStudent(spec, saved, store=store, cache=tmp_path / "cache", load=load)  # type: ignore[arg-type]
    assert loads == []

    first = student.answers(["w1 w2"] * 6, temperature=1.0, seed=3)

    assert first == student.answers(["w1 w2"] * 6, temperature=1.0, seed=3)
    assert len(set(first)) > 1
    assert len(loads) == 1
    assert student.token_count >= 2 * 6
