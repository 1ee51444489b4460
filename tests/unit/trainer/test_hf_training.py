"""Trainings of tiny models through the Hugging Face Trainer."""

from __future__ import annotations

import errno
import json
import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from training import TEMPLATE, job, scan_examples, tiny_checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer

from mendloop.core.errors import Interrupted, Permanent, Retryable
from mendloop.core.training import TrainingJob, TrainingReport
from mendloop.trainer.adapters.collation import RightPadding
from mendloop.trainer.adapters.faults import full_disk_is_retryable
from mendloop.trainer.adapters.hf_training import run_job
from mendloop.trainer.domain.labels import IGNORED, labelled
from mendloop.trainer.domain.schedule import Mixture, schedule

CORPUS = scan_examples(60)
BATCH = scan_examples(6, source="batch", skip=5)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("start"), dropout=0.1)


def _run(
    work: TrainingJob, *, start: Path, folder: Path, out: str = "out", is_stopping: Callable[[], bool] = lambda: False
) -> TrainingReport:
    return run_job(
        work,
        start_dir=start,
        corpus=CORPUS,
        batch=BATCH if work.batch else None,
        work_dir=folder / "work",
        out_dir=folder / out,
        is_stopping=is_stopping,
        torch_threads=1,
    )


def _weights(folder: Path, out: str = "out") -> bytes:
    return (folder / out / "model.safetensors").read_bytes()


def test_training_lowers_the_loss_and_reports_what_it_did(start: Path, tmp_path: Path) -> None:
    report = _run(job(steps=30, learning_rate=1e-2, batch=True), start=start, folder=tmp_path)

    parameters = AutoModelForCausalLM.from_pretrained(start).num_parameters()
    assert report.loss_curve[-1][1] < 0.8 * report.loss_curve[0][1]
    assert (report.step_count, report.loss_curve[-1][0], report.stopped_early) == (30, 30, "")
    assert report.flops == 6 * parameters * report.token_count
    assert report.wall_s > 0
    assert [check.name for check in report.health if check.passed] == [check.name for check in report.health]


def test_the_result_is_that_of_a_plain_loop_over_the_same_batches(tmp_path: Path) -> None:
    start = tiny_checkpoint(tmp_path / "start")  # without dropout, so that no random number is drawn
    work = job(steps=6, batch=True, weight_decay=0.1, learning_rate=1e-2)

    _run(work, start=start, folder=tmp_path)

    trained = load_file(tmp_path / "out" / "model.safetensors")
    for name, expected in _plain_loop(work, start=start).items():
        torch.testing.assert_close(trained[name], expected, rtol=1e-4, atol=1e-5, msg=name)


def _plain_loop(work: TrainingJob, *, start: Path) -> dict[str, torch.Tensor]:
    settings = work.settings
    model, tokenizer = AutoModelForCausalLM.from_pretrained(start), AutoTokenizer.from_pretrained(start)
    decayed = [p for name, p in model.named_parameters() if "norm" not in name]
    others = [p for name, p in model.named_parameters() if "norm" in name]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
    rows = [*CORPUS, *BATCH]
    mixture = Mixture(len(CORPUS), len(BATCH), work.replay_share, settings.batch_size, work.seed)
    for at, step in enumerate(schedule(mixture, step_count=settings.steps)):
        rate = min(at / settings.warmup_steps, (settings.steps - at) / (settings.steps - settings.warmup_steps))
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * rate
        total, count = torch.zeros(()), 0
        for row in (rows[number] for number in step):  # one by one: no padding
            prompt = tokenizer(TEMPLATE.format(prompt=row.prompt), add_special_tokens=False).input_ids
            ids = [*prompt, *tokenizer(row.completion, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
            logits_LV = model(torch.tensor([ids])).logits[0, len(prompt) - 1 : -1]
            total = total + cross_entropy(logits_LV, torch.tensor(ids[len(prompt) :]), reduction="sum")
            count += len(ids) - len(prompt)
        (total / count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    weights: dict[str, torch.Tensor] = model.state_dict()
    return weights


def test_a_job_gives_the_same_bytes_wherever_it_runs_and_another_seed_others(start: Path, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(start, tmp_path / "elsewhere")

    _run(job(), start=start, folder=tmp_path / "a")
    _run(job(), start=elsewhere, folder=tmp_path / "b")
    _run(replace(job(), seed=8), start=start, folder=tmp_path / "c")

    a, b = ({p.name: p.read_bytes() for p in (tmp_path / name / "out").iterdir()} for name in "ab")
    assert a == b
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= set(a)
    assert _weights(tmp_path / "a") != _weights(tmp_path / "c")


@pytest.mark.parametrize("stopped_after", [1, 3, 7, 11])
def test_an_interrupted_job_goes_on_bit_identically(start: Path, tmp_path: Path, stopped_after: int) -> None:
    whole = _run(job(batch=True), start=start, folder=tmp_path / "whole")
    answers = iter([False] * (stopped_after - 1) + [True])

    with pytest.raises(Interrupted, match=f"after step {stopped_after} of 12"):
        _run(job(batch=True), start=start, folder=tmp_path / "cut", is_stopping=lambda: next(answers))
    resumed = _run(job(batch=True), start=start, folder=tmp_path / "cut")

    assert _weights(tmp_path / "cut") == _weights(tmp_path / "whole")
    assert resumed.loss_curve == whole.loss_curve
    assert resumed.token_count == whole.token_count


def test_a_stop_on_the_last_step_finishes_the_job(start: Path, tmp_path: Path) -> None:
    answers = iter([False] * 11 + [True])

    report = _run(job(), start=start, folder=tmp_path, is_stopping=lambda: next(answers))

    assert report.step_count == 12


def test_a_resumed_job_trains_only_the_steps_that_are_left(start: Path, tmp_path: Path) -> None:
    steps: list[int] = []
    answers = iter([False] * 4 + [True])
    with pytest.raises(Interrupted):
        _run(job(), start=start, folder=tmp_path, is_stopping=lambda: next(answers))

    run_job(
        job(),
        start_dir=start,
        corpus=CORPUS,
        batch=None,
        work_dir=tmp_path / "work",
        out_dir=tmp_path / "out",
        on_step=lambda step, token_count: steps.append(step),
    )

    assert steps == list(range(6, 13))


def test_masked_eos_is_refused_before_any_step(start: Path, tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"eos_in_loss: EOS carries loss in 0 of 60 examples"):
        _run(job(eos_in_loss=False), start=start, folder=tmp_path)

    assert not (tmp_path / "work").exists()
    assert not (tmp_path / "out").exists()


def test_masked_eos_with_warn_trains_logs_and_stands_in_the_report(
    start: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        report = _run(job(eos_in_loss=False, on_unhealthy="warn"), start=start, folder=tmp_path)

    assert [check.name for check in report.health if not check.passed] == ["eos_in_loss"]
    assert any("unhealthy" in record.message for record in caplog.records)
    assert report.step_count == 12


def test_padding_that_is_the_eos_id_masks_no_eos(tmp_path: Path) -> None:
    start = tiny_checkpoint(tmp_path / "start", pad_is_eos=True)

    report = _run(job(steps=2), start=start, folder=tmp_path)

    assert {check.name: check.value for check in report.health}["eos_in_loss"] == 1.0
    eos = 1
    rows = [
        labelled(ids, prompt_length=1, is_cut=False, prompt_in_loss=False, eos_in_loss=True)
        for ids in ([5, 6, 7, eos], [5, eos])
    ]
    assert RightPadding(padding_id=eos)(rows)["labels"].tolist() == [
        [IGNORED, 6, 7, eos],
        [IGNORED, eos, IGNORED, IGNORED],
    ]


def test_a_token_limit_cuts_steps_and_says_so(start: Path, tmp_path: Path) -> None:
    whole = _run(job(), start=start, folder=tmp_path / "whole")
    limit = whole.token_count // 2

    report = _run(job(token_limit=limit), start=start, folder=tmp_path / "cut")

    assert 0 < report.token_count <= limit
    assert 0 < report.step_count < 12
    assert f"token limit {limit}" in report.stopped_early


def test_a_limit_that_allows_no_step_is_refused_with_its_numbers(start: Path, tmp_path: Path) -> None:
    with pytest.raises(
        Permanent, match=r"token limit 10 allows no step: the first one has \d{2,} tokens \(8 examples\)"
    ):
        _run(job(token_limit=10), start=start, folder=tmp_path)


def test_divergence_is_refused_with_step_and_losses_and_leaves_nothing(start: Path, tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"(diverged|loss became|norm became).* at step \d+.*last losses"):
        _run(job(steps=60, save_steps=1, learning_rate=1e4, warmup_steps=0), start=start, folder=tmp_path)

    assert list((tmp_path / "work").iterdir()) == []
    assert not (tmp_path / "out").exists()


def test_weights_that_are_no_numbers_leave_no_checkpoint(tmp_path: Path) -> None:
    start = tiny_checkpoint(tmp_path / "start")
    weights = {
        name: torch.full_like(value, torch.nan) for name, value in load_file(start / "model.safetensors").items()
    }
    save_file(weights, start / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(Permanent, match="the loss became nan at step 1"):
        _run(job(save_steps=1), start=start, folder=tmp_path)

    assert list((tmp_path / "work").iterdir()) == []


def _truncate_weights(start: Path) -> None:
    path = start / "model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])


def _drop_a_weight(start: Path) -> None:
    weights = load_file(start / "model.safetensors")
    weights.pop("lm_head.weight")
    save_file(weights, start / "model.safetensors", metadata={"format": "pt"})


def _change_the_shape(start: Path) -> None:
    config = json.loads((start / "config.json").read_text())
    (start / "config.json").write_text(json.dumps({**config, "intermediate_size": 8}))


def _remove_weights(start: Path) -> None:
    (start / "model.safetensors").unlink()


def _garble_the_tokenizer(start: Path) -> None:
    (start / "tokenizer.json").write_text("{")


@pytest.mark.parametrize(
    "damage", [_truncate_weights, _drop_a_weight, _change_the_shape, _remove_weights, _garble_the_tokenizer]
)
def test_a_damaged_start_checkpoint_is_refused_by_name(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    start = tiny_checkpoint(tmp_path / "start")
    damage(start)

    with pytest.raises(Permanent, match=re.escape(str(start))):
        _run(job(), start=start, folder=tmp_path)


def test_a_bfloat16_checkpoint_trains_in_float32_and_stays_bfloat16(tmp_path: Path) -> None:
    start = tiny_checkpoint(tmp_path / "start")
    AutoModelForCausalLM.from_pretrained(start, dtype=torch.bfloat16).save_pretrained(start)

    _run(job(), start=start, folder=tmp_path)

    trained = load_file(tmp_path / "out" / "model.safetensors")
    assert {value.dtype for value in trained.values()} == {torch.bfloat16}
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").dtype == torch.bfloat16


def test_a_full_disk_is_worth_another_try(tmp_path: Path) -> None:
    with pytest.raises(Retryable, match="free disk space"), full_disk_is_retryable(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(PermissionError), full_disk_is_retryable(tmp_path):
        raise PermissionError(errno.EACCES, "no")
