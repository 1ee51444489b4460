"""Trainings of low-rank adapters, merged into whole checkpoints."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from training import TEMPLATE, job, scan_examples, tiny_checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer

from mendloop.core.errors import Interrupted, Permanent
from mendloop.core.training import TrainingJob
from mendloop.trainer.adapters.hf_training import run_job

CORPUS = scan_examples(60)
LORA = job(method="lora", lora_rank=4, lora_alpha=8, learning_rate=1e-2)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("start"), dropout=0.1)


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _run(work: TrainingJob, *, start: Path, folder: Path, stop_after: int = 0) -> dict[str, bytes]:
    answers = iter([False] * (stop_after - 1) + [True] if stop_after else [False] * 1000)
    run_job(
        work,
        start_dir=start,
        corpus=CORPUS,
        batch=None,
        work_dir=folder / "work",
        out_dir=folder / "out",
        is_stopping=lambda: next(answers),
        torch_threads=1,
    )
    return _files(folder / "out")


def test_the_merged_checkpoint_says_what_base_and_adapter_say_together(start: Path, tmp_path: Path) -> None:
    _run(LORA, start=start, folder=tmp_path)

    tokenizer = AutoTokenizer.from_pretrained(start)
    ids_BL = tokenizer([TEMPLATE.format(prompt=row.prompt) for row in CORPUS[:1]], return_tensors="pt").input_ids
    base = AutoModelForCausalLM.from_pretrained(start)
    before = base(ids_BL).logits
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")(ids_BL).logits
    adapted = PeftModel.from_pretrained(base, tmp_path / "out" / "adapter").eval()(ids_BL).logits
    torch.testing.assert_close(merged, adapted, rtol=1e-4, atol=1e-5)
    assert (merged - before).abs().max() > 0.01


def test_only_linear_layers_change_and_the_rest_keeps_its_bits(start: Path, tmp_path: Path) -> None:
    _run(LORA, start=start, folder=tmp_path)

    before, after = (load_file(folder / "model.safetensors") for folder in (start, tmp_path / "out"))
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert before.keys() == after.keys()
    assert changed == {name for name in before if "_proj" in name}


def test_an_adapter_training_costs_two_thirds_of_a_full_one(start: Path, tmp_path: Path) -> None:
    report = run_job(LORA, start_dir=start, corpus=CORPUS, batch=None, work_dir=tmp_path, out_dir=tmp_path / "out")

    parameter_count = AutoModelForCausalLM.from_pretrained(start).num_parameters()
    assert report.flops == 4 * parameter_count * report.token_count
    assert report.loss_curve[-1][1] < report.loss_curve[0][1]


def test_an_interrupted_adapter_training_goes_on_bit_identically(start: Path, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(start, tmp_path / "elsewhere")
    whole = _run(LORA, start=elsewhere, folder=tmp_path / "whole")

    with pytest.raises(Interrupted):
        _run(LORA, start=start, folder=tmp_path / "cut", stop_after=7)
    resumed = _run(LORA, start=start, folder=tmp_path / "cut")

    assert resumed == whole
    assert {"model.safetensors", "adapter/adapter_model.safetensors", "adapter/adapter_config.json"} <= resumed.keys()
    assert not any(str(path).encode() in b"".join(resumed.values()) for path in (tmp_path, start))


def test_named_targets_alone_get_adapters(start: Path, tmp_path: Path) -> None:
    work = job(steps=2, method="lora", lora_targets=["q_proj", "v_proj"])

    _run(work, start=start, folder=tmp_path)

    names = load_file(tmp_path / "out" / "adapter" / "adapter_model.safetensors")
    assert {name.split(".")[-3] for name in names} == {"q_proj", "v_proj"}


def test_a_target_that_the_model_does_not_have_is_refused_with_those_that_it_has(start: Path, tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"lora_targets is \['c_attn'\].*linear layers are \['down_proj', .*'v_proj'\]"):
        _run(job(method="lora", lora_targets=["c_attn"]), start=start, folder=tmp_path)


def test_the_output_layer_of_tied_weights_gets_no_adapter(tmp_path: Path) -> None:
    start = tiny_checkpoint(tmp_path / "start")
    model = AutoModelForCausalLM.from_pretrained(start)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(start)

    with pytest.raises(Permanent, match="lm_head, whose weights are the embedding's too"):
        _run(job(method="lora", lora_targets=["q_proj", "lm_head"]), start=start, folder=tmp_path)


def test_health_is_checked_before_an_adapter_is_made(start: Path, tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="eos_in_loss: EOS carries loss in 0 of 60"):
        _run(job(method="lora", eos_in_loss=False), start=start, folder=tmp_path)

    assert not (tmp_path / "work").exists()
