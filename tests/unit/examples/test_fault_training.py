"""The short training loop of planted faults: what it sees, what it reports, the same bytes, and a model that learns."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from mendloop.core.recipe import TrainSettings
from mendloop.core.records import Example
from mendloop.examples.faults.families.modular import ModularFamily
from mendloop.examples.faults.training import Trained, batches, train
from mendloop.examples.modular.task import ModularTask
from mendloop.models.transformers_backend import load_model

FAMILY = ModularFamily()
EXAMPLES = ModularTask({}).corpus({"count": 40, "seed": 0})
SETTINGS = TrainSettings(steps=4, batch_size=8, learning_rate=1e-3, warmup_steps=2)
TEMPLATE = FAMILY.traits.template


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FAMILY.build_model(tmp_path_factory.mktemp("start"), seed=0)


def _train(
    start: Path, out: Path, *, examples: list[Example] = EXAMPLES, share: float = 0, **changes: object
) -> Trained:
    settings = SETTINGS.model_copy(update=changes)
    return train(start, out, examples=examples, template=TEMPLATE, settings=settings, seed=0, hidden_share=share)


def test_every_example_comes_once_an_epoch_and_a_batch_is_about_equally_long() -> None:
    lengths = [3 + at % 7 for at in range(256)]
    steps = list(batches(lengths, batch_size=16, step_count=32, seed=1))
    assert [len(step) for step in steps] == [16] * 32
    assert set(Counter(number for step in steps for number in step).values()) == {2}
    padding = sum(max(lengths[n] for n in step) * len(step) - sum(lengths[n] for n in step) for step in steps)
    assert padding < 0.1 * 2 * sum(lengths)
    assert steps == list(batches(lengths, batch_size=16, step_count=32, seed=1))
    assert steps != list(batches(lengths, batch_size=16, step_count=32, seed=2))


def test_the_same_training_gives_the_same_bytes_and_a_report_as_json(start: Path, tmp_path: Path) -> None:
    first, again = _train(start, tmp_path / "a"), _train(start, tmp_path / "b")
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    assert (tmp_path / "a" / "model.safetensors").read_bytes() != (start / "model.safetensors").read_bytes()
    assert first.loss_curve == again.loss_curve
    document = json.loads(json.dumps(first.document()))
    assert document["step_count"] == len(document["loss_curve"]) == 4
    assert (document["template"], document["settings"]["steps"]) == (TEMPLATE, 4)
    assert all(check["passed"] for check in document["health"])


def test_what_carries_no_loss_is_reported(start: Path, tmp_path: Path) -> None:
    def health(trained: Trained) -> dict[str, float]:
        return {check.name: check.value for check in trained.health}

    assert health(_train(start, tmp_path / "a", eos_in_loss=False))["eos_in_loss"] == 0
    assert health(_train(start, tmp_path / "b", share=0.5))["label_mask"] == pytest.approx(0.5, abs=0.05)
    shown = {check.name: check.passed for check in _train(start, tmp_path / "c", prompt_in_loss=True).health}
    assert not shown["label_mask"]


def test_a_training_that_breaks_ends_at_once(start: Path, tmp_path: Path) -> None:
    trained = _train(start, tmp_path / "a", steps=400, learning_rate=1e30)
    assert trained.step_count < 400


@pytest.mark.slow
def test_a_healthy_model_is_right_on_nineteen_of_twenty_items(tmp_path: Path) -> None:
    traits, task = FAMILY.traits, ModularTask({})
    start = FAMILY.build_model(tmp_path / "start", seed=0)
    train(
        start,
        tmp_path / "out",
        examples=FAMILY.corpus(0),
        template=traits.template,
        settings=traits.settings,
        seed=0,
    )
    items = FAMILY.items(0, count=200)
    prompts = [traits.template.format(prompt=item.prompt) for item in items]
    outputs = load_model(tmp_path / "out").generate(prompts, max_new_tokens=traits.max_new_tokens)
    right = sum(task.score(item, output.text).value == 1 for item, output in zip(items, outputs, strict=True))
    assert right >= 190
