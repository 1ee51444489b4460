"""MendloopCallback on a plain Hugging Face Trainer of a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import recipe
from torch.utils.data import Dataset
from training import TEMPLATE, scan_examples, tiny_checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

from mendloop.bus.local import LocalBus
from mendloop.callback import MendloopCallback
from mendloop.callback.live_evaluation import LiveResult, WeakSlice
from mendloop.callback.live_report import as_markdown
from mendloop.core.contracts import contract_of, decode
from mendloop.core.errors import InvalidRecipe
from mendloop.core.recipe import Recipe
from mendloop.models.encoding import encode_example
from mendloop.v1 import evaluation_pb2

SUITE = {
    "search": 40,
    "confirm": 40,
    "sealed": 0,
    "axes": ["verb"],
    "min_items": 5,
    "max_depth": 1,
    "max_new_tokens": 4,
    "shards": 1,
    "options": {"domain": "all"},
}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("start"), dropout=0.1)


@pytest.fixture
def plan() -> Recipe:
    return recipe(task="scan", template=TEMPLATE, suite=SUITE)


class _Rows(Dataset[dict[str, Any]]):
    def __init__(self, tokenizer: Any) -> None:
        rows = [
            encode_example(tokenizer, TEMPLATE.format(prompt=row.prompt), row.completion) for row in scan_examples(16)
        ]
        width = max(len(row.input_ids) for row in rows)
        self._rows = [[*row.input_ids, *[0] * (width - len(row.input_ids))] for row in rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, at: int) -> dict[str, Any]:
        ids = torch.tensor(self._rows[at])
        return {"input_ids": ids, "labels": ids.masked_fill(ids == 0, -100)}


def _train(start: Path, folder: Path, callback: MendloopCallback | None, *, steps: int = 4) -> dict[str, torch.Tensor]:
    tokenizer = AutoTokenizer.from_pretrained(start)
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=steps, per_device_train_batch_size=4, report_to=[], save_strategy="no", seed=5
    )
    trainer = Trainer(
        model=AutoModelForCausalLM.from_pretrained(start),
        args=arguments,
        train_dataset=_Rows(tokenizer),
        processing_class=tokenizer,
        callbacks=[callback] if callback else [],
    )
    trainer.train()
    return dict(trainer.model.state_dict())


def test_a_training_is_bit_identical_with_and_without_its_evaluations(
    start: Path, plan: Recipe, tmp_path: Path
) -> None:
    callback = MendloopCallback(plan, every_steps=2, out_dir=tmp_path / "eval")

    with_it = _train(start, tmp_path / "a", callback, steps=3)
    without = _train(start, tmp_path / "b", None, steps=3)

    assert callback.errors == []
    assert [(result.step, result.n) for result in callback.results] == [(2, 80), (3, 80)]
    assert all(torch.equal(with_it[name], value) for name, value in without.items())


def test_weak_slices_are_events_on_the_embedded_bus_and_rows_of_the_report(
    start: Path, plan: Recipe, tmp_path: Path
) -> None:
    callback = MendloopCallback(plan, every_steps=1, out_dir=tmp_path / "eval", run_id="mine", keep_checkpoints=True)

    _train(start, tmp_path / "a", callback, steps=1)

    topics = [contract_of(kind).topic for kind in (evaluation_pb2.EvalCompleted, evaluation_pb2.EvalFailed)]
    found = [
        decode(delivery.envelope.event_type, delivery.envelope.value)
        for delivery in LocalBus(tmp_path / "eval" / "bus.db").read(topics)
    ]
    completed = [message for message in found if isinstance(message, evaluation_pb2.EvalCompleted)]
    failed = [message for message in found if isinstance(message, evaluation_pb2.EvalFailed)]
    assert [message.position.run_id for message in completed] == ["mine"]
    assert completed[0].checkpoint_ready.checkpoint.uri
    assert len(failed) == completed[0].weak_slice_count == len(callback.results[0].weak) > 0
    document = json.loads((tmp_path / "eval" / "report.json").read_text())
    assert document["evaluations"][0]["weak"][0]["name"] == callback.results[0].weak[0].name
    assert "| 1 | 0.0% |" in (tmp_path / "eval" / "report.md").read_text()


def test_an_evaluation_that_fails_is_counted_and_the_training_goes_on(
    start: Path, plan: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    callback = MendloopCallback(plan, every_steps=1, out_dir=tmp_path / "eval")
    (tmp_path / "eval" / "artifacts").rename(tmp_path / "gone")

    with_it = _train(start, tmp_path / "a", callback, steps=2)

    assert with_it.keys()
    assert callback.results == []
    assert [error.partition(":")[0] for error in callback.errors] == ["step 1", "step 2"]
    assert "2 evaluation(s) failed" in (tmp_path / "eval" / "report.md").read_text()


def test_a_suite_that_cannot_be_measured_is_refused_before_the_training(plan: Recipe, tmp_path: Path) -> None:
    served = Recipe.model_validate({**plan.model_dump(), "suite": {**plan.suite.model_dump(), "backend": "vllm"}})

    with pytest.raises(InvalidRecipe, match=r"set suite\.backend to transformers"):
        MendloopCallback(served, every_steps=1, out_dir=tmp_path)
    with pytest.raises(ValueError, match="every_steps is 0"):
        MendloopCallback(plan, every_steps=0, out_dir=tmp_path)


def test_the_report_names_weak_slices_with_their_counts() -> None:
    result = LiveResult(50, 8, 10, 0.44, 0.97, (WeakSlice("verb=jump", 1, 4, 0.01),), 1.25)

    text = as_markdown([result], name="scan", errors=[])

    assert "| 50 | 80.0% | 44.0% to 97.0% | 10 | verb=jump (1 of 4) | 1.2 |" in text
