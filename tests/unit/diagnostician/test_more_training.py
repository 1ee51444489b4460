"""More training helps a model that had little of it; a model at its end, or without weights, says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diagnosis_cases import ToyModel, case_of, wrong_on
from tiny_models import save, tiny_llama, word_tokenizer

from mendloop.core.records import Example
from mendloop.diagnostician.adapters.probes import more_training
from mendloop.diagnostician.adapters.probes.more_training import MoreTraining
from mendloop.diagnostician.domain.case import Case

CORPUS = [
    Example(f"w{first} w{second}", f"w{second} w{first}", "corpus") for first in range(10) for second in range(10)
]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    torch.manual_seed(0)
    tokenizer = word_tokenizer()
    directory = save(tmp_path, tiny_llama(len(tokenizer)), tokenizer)
    toy = case_of(ToyModel(answers=wrong_on("green")), corpus=CORPUS)
    return replace(toy, weights=lambda: directory, template=lambda prompt: f"IN: {prompt} OUT:")


def test_an_untrained_model_gets_better_with_more_steps_and_its_checkpoint_stays(case: Case) -> None:
    assert case.weights is not None
    before = (case.weights() / "model.safetensors").read_bytes()
    drop, fresh = MoreTraining().run(case)
    assert (drop.measurement, fresh.measurement) == ("loss_drop", "fresh_drop")
    assert drop.low > 0.2
    assert fresh.low > 0.2
    assert drop.low <= drop.value <= drop.high <= 1
    assert (case.weights() / "model.safetensors").read_bytes() == before


def test_the_same_case_gives_the_same_figures(case: Case) -> None:
    assert MoreTraining().run(case) == MoreTraining().run(case)


def test_without_weights_or_with_a_large_model_it_says_why(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = MoreTraining().run(replace(case, weights=None))
    assert [row.n for row in rows] == [0, 0]
    assert "needs weights" in rows[0].reading
    monkeypatch.setattr(more_training, "MOST_PARAMETERS", 10)
    assert "more than 10 parameters" in MoreTraining().run(case)[0].reading
