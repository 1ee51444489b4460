"""Outputs with annotated arithmetic get their first wrong step in every adapter, and from `mend import-eval`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from mendloop.cli.app import app
from mendloop.core.errors import InvalidRecipe
from mendloop.core.records import Score
from mendloop.core.tasks import find_task
from mendloop.suites.importers.collecting import Options
from mendloop.suites.importers.reading import read_results

SOLUTIONS = Path(__file__).parents[4] / "shared" / "data" / "gsm8k" / "example_model_solutions.jsonl"
SLIP = "She has 2 + 3 = <<2+3=5>>5 eggs.\nShe sells 5 * 4 = <<5*4=25>>25 dollars.\nA: 25"
SOUND = "She has 2 + 3 = <<2+3=5>>5 eggs.\nShe sells 5 * 4 = <<5*4=20>>20 dollars.\nA: 20"
INSPECT = """
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.scorer import match
from inspect_ai.solver import generate

@task
def eggs():
    return Task(dataset=MemoryDataset([Sample(input="eggs?", target="20")]), solver=generate(), scorer=match())
"""


@pytest.fixture
def reward_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "suspicious_prm.py").write_text(
        "class Model:\n    def rewards(self, prompt, steps):\n"
        "        return [0.9, *([0.1] * (len(steps) - 1))][: len(steps)]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return "suspicious_prm:Model"


def _lm_eval(folder: Path, steps: object, **changes: Any) -> Any:
    pytest.importorskip("lm_eval", reason="lm_eval is not installed (extra lm-eval)")
    rows = [{"question": "eggs?", "answer": "20"}, {"question": "more eggs?", "answer": "20"}]
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = {
        "task": "eggs",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "test.jsonl"}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["Q:"]},
        "filter_list": [
            {"name": "a", "filter": [{"function": "regex", "regex_pattern": "A: (\\d+)"}, {"function": "take_first"}]}
        ],
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        **changes,
    }
    (folder / "eggs.yaml").write_text(yaml.safe_dump(config))
    return find_task("lm-eval", {"path": str(folder / "eggs.yaml"), "task": "eggs", "steps": steps})


def _inspect(folder: Path, steps: object) -> Any:
    pytest.importorskip("inspect_ai", reason="inspect_ai is not installed (extra inspect)")
    (folder / "eggs_task.py").write_text(INSPECT)
    return find_task("inspect", {"path": str(folder / "eggs_task.py"), "task": "eggs", "steps": steps})


@pytest.mark.parametrize("family", [_lm_eval, _inspect])
def test_the_score_of_an_adapter_names_the_first_wrong_step_and_its_operation(family: Any, tmp_path: Path) -> None:
    task = family(tmp_path, "arithmetic")
    (item,) = task.items(counts={"search": 1}, seed=0)

    slip, sound = task.score(item, SLIP), task.score(item, SOUND)

    assert (slip.value, slip.first_wrong_step, slip.wrong_operation) == (0.0, 1, "multiplication")
    assert (sound.value, sound.first_wrong_step, sound.wrong_operation) == (1.0, None, "")


@pytest.mark.parametrize("family", [_lm_eval, _inspect])
def test_without_the_option_nobody_looks_at_steps(family: Any, tmp_path: Path) -> None:
    task = family(tmp_path, "")
    (item,) = task.items(counts={"search": 1}, seed=0)

    assert task.score(item, SLIP).first_wrong_step is None


@pytest.mark.parametrize("family", [_lm_eval, _inspect])
def test_a_process_reward_model_judges_where_no_program_can(family: Any, tmp_path: Path, reward_model: str) -> None:
    task = family(tmp_path, ["arithmetic", reward_model])
    (item,) = task.items(counts={"search": 1}, seed=0)

    found: Score = task.score(item, "It is <<1+1=2>>2.\nSo she is <<2+2=4>>4.\nShe is sad.")

    assert (found.first_wrong_step, found.wrong_operation) == (2, "")


@pytest.mark.parametrize("name", ["algebra", "no.such.module:model", "json:nothing"])
def test_a_checker_that_is_not_there_is_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipe, match=name):
        _inspect(tmp_path, name)


def test_choices_have_no_steps(tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipe, match="multiple_choice has no steps"):
        _lm_eval(
            tmp_path,
            "arithmetic",
            output_type="multiple_choice",
            doc_to_choice=["20", "25"],
            doc_to_target=0,
            filter_list=None,
            metric_list=[{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        )


def test_the_importer_fills_steps_and_the_command_counts_them(tmp_path: Path) -> None:
    file, out = tmp_path / "rows.jsonl", tmp_path / "rows.parquet"
    row = {"prompt": "eggs?", "target": "20"}
    rows = [{**row, "id": "slip", "output": SLIP, "score": 0}, {**row, "id": "sound", "output": SOUND, "score": 1}]
    file.write_text("\n".join(map(json.dumps, rows)))

    done = CliRunner().invoke(app, ["import-eval", str(file), "--out", str(out), "--steps", "arithmetic"])

    assert done.exit_code == 0, done.output
    words = " ".join(done.output.split())
    assert "steps: 1 of 1 wrong outcomes have a first wrong step" in words
    assert "multiplication 1" in words
    found = {outcome.item_id: outcome for outcome in read_results(out).outcomes}
    assert (found["slip"].first_wrong_step, found["slip"].wrong_operation) == (1, "multiplication")
    assert found["sound"].first_wrong_step is None


def test_actions_of_scan_are_checked_on_import_and_other_prompts_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "scan.jsonl"
    rows = [
        {"id": 1, "prompt": "jump twice", "output": "I_JUMP I_WALK", "target": "I_JUMP I_JUMP"},
        {"id": 2, "prompt": "fly", "output": "I_JUMP", "target": "I_FLY"},
    ]
    file.write_text("\n".join(map(json.dumps, rows)))

    found = read_results(file, options=Options(steps=("scan",)))

    assert [(row.first_wrong_step, row.wrong_operation) for row in found.outcomes] == [(1, "twice"), (None, "")]
    assert found.notes["output whose steps the checker cannot read"] == 1


@pytest.mark.skipif(not SOLUTIONS.is_file(), reason="GSM8K is not beside the repository (shared/data/gsm8k)")
def test_wrong_solutions_of_gsm8k_are_accused_and_right_ones_hardly_ever(tmp_path: Path) -> None:
    file = tmp_path / "solutions.jsonl"
    rows = [json.loads(line)["175b_verification"] for line in SOLUTIONS.read_text().splitlines()]
    lines = [
        {"id": i, "prompt": "", "output": row["solution"], "target": "x", "score": row["is_correct"]}
        for i, row in enumerate(rows)
    ]
    file.write_text("\n".join(map(json.dumps, lines)))

    found = read_results(file, options=Options(steps=("arithmetic",))).outcomes

    accused = [row for row in found if row.first_wrong_step is not None]
    assert sum(not row.is_correct for row in accused) >= 20
    assert sum(row.is_correct for row in accused) <= 5
    assert all(row.wrong_operation for row in accused)
