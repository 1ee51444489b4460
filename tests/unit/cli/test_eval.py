"""`mend eval` measures a checkpoint directory without services and goes on after a kill."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tiny_models import WORDS, save, tiny_llama, word_tokenizer
from typer.testing import CliRunner

from mendloop.artifacts.tables import schema_of
from mendloop.cli import measuring
from mendloop.cli.app import app
from mendloop.core.records import Outcome
from mendloop.evaluator import measurement

RECIPE = """\
name: tiny
task: scan
template: "IN: {prompt} OUT:"
base: {model: "."}
suite: {axes: [verb], search: 40, confirm: 20, sealed: 20, max_new_tokens: 4, shards: 2%s}
"""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save(tmp_path / "model", tiny_llama(len(WORDS)), word_tokenizer())


def evaluate(checkpoint: Path, root: Path, *more: str, suite: str = "") -> Any:
    recipe = root / "recipe.yaml"
    recipe.write_text(RECIPE % suite)
    arguments = ["eval", str(checkpoint), "--recipe", str(recipe), "--out", str(root / "out"), *more]
    return CliRunner().invoke(app, arguments)


def test_accuracy_with_interval_weak_slices_and_outcomes(checkpoint: Path, tmp_path: Path) -> None:
    done = evaluate(checkpoint, tmp_path)

    assert done.exit_code == 0, done.output
    assert "accuracy 0.0% (0 of 60 items), 95 % interval 0.0% to 6.0%" in done.output
    assert "all items" in done.output
    table = pq.read_table(io.BytesIO((tmp_path / "out" / "outcomes.parquet").read_bytes()))
    assert table.schema.names == schema_of(Outcome).names
    assert table.num_rows == 60
    facts = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert facts["accuracy"]["n"] == 60
    assert facts["weak_slices"]


def test_repeats_are_reported_beside_the_first_draw(checkpoint: Path, tmp_path: Path) -> None:
    done = evaluate(checkpoint, tmp_path, suite=", temperature: 1.0, repeats: 3, seed: 4")

    assert done.exit_code == 0, done.output
    assert "pass@1 over 3 draws an item" in done.output
    rows = pq.read_table(io.BytesIO((tmp_path / "out" / "outcomes.parquet").read_bytes())).to_pylist()
    assert len(rows) == 180
    assert all(row["seed"] > 0 for row in rows)


def test_a_killed_evaluation_goes_on_from_its_finished_batches(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurement, "BATCH_ITEMS", 10)
    measured = measurement.Measurement._measure
    batches: list[int] = []

    def dies(self: Any, batch: Any) -> Any:
        if len(batches) == 3:
            raise KeyboardInterrupt
        batches.append(len(batch))
        return measured(self, batch)

    monkeypatch.setattr(measurement.Measurement, "_measure", dies)
    stopped = evaluate(checkpoint, tmp_path)
    monkeypatch.setattr(
        measurement.Measurement, "_measure", lambda self, batch: batches.append(len(batch)) or measured(self, batch)
    )
    done = evaluate(checkpoint, tmp_path)

    assert stopped.exit_code == 130
    assert done.exit_code == 0, done.output
    assert batches == [10] * 6, "each batch is measured once"


def test_a_changed_checkpoint_is_measured_anew(checkpoint: Path, tmp_path: Path) -> None:
    evaluate(checkpoint, tmp_path)
    first = json.loads((tmp_path / "out" / "evaluation.json").read_text())["evaluation_id"]
    save(checkpoint, tiny_llama(len(WORDS), seed=3), word_tokenizer())

    evaluate(checkpoint, tmp_path)

    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["evaluation_id"] != first


def test_a_task_needs_no_recipe(checkpoint: Path, tmp_path: Path) -> None:
    arguments = ["eval", str(checkpoint), "--task", "scan", "--items", "60", "--out", str(tmp_path / "out")]

    done = CliRunner().invoke(app, arguments)

    assert done.exit_code == 0, done.output
    assert "of 60 items" in done.output


def test_what_the_recipe_cannot_mean_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    assert "--backend" in evaluate(checkpoint, tmp_path, "--backend", "llama.cpp").output
    for change, words in ((", min_items: 5", "unknown axis nowhere"), ("", "does not contain")):
        recipe = tmp_path / "bad.yaml"
        text = RECIPE % change
        bad = text.replace("[verb]", "[nowhere]") if change else text.replace("{prompt}", "prompt")
        recipe.write_text(bad)
        arguments = ["eval", str(checkpoint), "--recipe", str(recipe), "--out", str(tmp_path / "out")]
        refused = CliRunner().invoke(app, arguments)
        assert words in str(refused.exception)


@pytest.mark.parametrize("more", [[], ["--task", "scan", "--options", "{"], ["--task", "scan", "--options", "[]"]])
def test_what_is_measured_must_be_said(checkpoint: Path, tmp_path: Path, more: list[str]) -> None:
    done = CliRunner().invoke(app, ["eval", str(checkpoint), "--out", str(tmp_path / "out"), *more])

    assert done.exit_code == 2
    assert "--recipe or --task" in done.output or "--options" in done.output


def test_a_task_without_axes_asks_for_a_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bare:
        def items(self, **_: Any) -> list[Any]:
            return []

    monkeypatch.setattr(measuring, "find_task", lambda *_: Bare())

    with pytest.raises(measuring.InvalidRecipe, match="have no axes"):
        measuring.recipe_of_task("bare", options={}, item_count=60, template="{prompt}")
