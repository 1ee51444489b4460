"""A training that may stop early keeps the weights of its lowest held-out loss, killed or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training import job, scan_examples, tiny_checkpoint

from mendloop.core.errors import Interrupted
from mendloop.core.training import TrainingJob, TrainingReport
from mendloop.trainer.adapters.hf_training import run_job

RISING: dict[str, Any] = {"learning_rate": 0.3, "warmup_steps": 1, "steps": 16}
"""So fast that the loss soon rises above its lowest."""
MEASURED: dict[str, Any] = {"held_out_share": 0.25, "held_out_every": 3}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("start"), dropout=0.1)


def _run(
    work: TrainingJob, *, start: Path, folder: Path, is_stopping: Callable[[], bool] = lambda: False
) -> TrainingReport:
    places = {"start_dir": start, "work_dir": folder / "work", "out_dir": folder / "out"}
    return run_job(work, corpus=scan_examples(60), batch=None, is_stopping=is_stopping, torch_threads=1, **places)


def _held_out_loss(folder: Path, *, tmp: Path) -> float:
    """That of the stored checkpoint, by a training that does not move it."""
    still: dict[str, Any] = {"learning_rate": 1e-30, "weight_decay": 0.0, "steps": 1, "warmup_steps": 0}
    report = _run(job(**still, held_out_share=0.25, held_out_every=1), start=folder / "out", folder=tmp)
    return report.held_out_curve[0][1]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_weights_of_the_lowest_held_out_loss_are_kept(start: Path, tmp_path: Path, method: str) -> None:
    report = _run(job(**RISING, **MEASURED, patience=9, method=method), start=start, folder=tmp_path / "a")

    losses = dict(report.held_out_curve)
    lowest = min(losses, key=lambda step: losses[step])
    assert list(losses) == [3, 6, 9, 12, 15, 16]  # the last step too
    assert losses[16] > losses[lowest]
    assert report.kept_step == lowest
    assert _held_out_loss(tmp_path / "a", tmp=tmp_path / "b") == pytest.approx(losses[lowest], rel=1e-4)


def test_without_patience_those_of_the_last_step_are(start: Path, tmp_path: Path) -> None:
    work = job(**{**RISING, "steps": 15}, **MEASURED)

    report = _run(work, start=start, folder=tmp_path / "a")

    assert report.kept_step == 0
    assert _held_out_loss(tmp_path / "a", tmp=tmp_path / "b") == pytest.approx(report.held_out_curve[-1][1], rel=1e-4)


@pytest.mark.parametrize("stopped_after", [4, 13])
def test_a_training_that_was_killed_keeps_the_same_weights(start: Path, tmp_path: Path, stopped_after: int) -> None:
    work = job(**RISING, **MEASURED, patience=9)
    whole = _run(work, start=start, folder=tmp_path / "whole")
    answers = iter([False] * (stopped_after - 1) + [True])

    with pytest.raises(Interrupted):
        _run(work, start=start, folder=tmp_path / "cut", is_stopping=lambda: next(answers))
    resumed = _run(work, start=start, folder=tmp_path / "cut")

    one, other = ((tmp_path / name / "out" / "model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert one == other
    assert resumed.kept_step == whole.kept_step


def test_a_job_with_patience_is_another_one_than_before_and_all_others_are_the_same() -> None:
    before = {"plain": "bca00d48b49db15a604cede0831032ec", "patient": "7648ec287a49f7bd295b541ab8653048"}

    assert job().job_id == before["plain"]
    assert job(held_out_share=0.1, patience=2).job_id != before["patient"]
