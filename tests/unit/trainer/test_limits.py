"""GPU-seconds end a training before its last step, and data that is refused has its evidence with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training import job, scan_examples, tiny_checkpoint

from mendloop.artifacts.store import ArtifactStore
from mendloop.core.recipe import BudgetSettings
from mendloop.core.training import TrainingFailure, TrainingJob, TrainingReport
from mendloop.trainer.adapters.hf_training import gpu_seconds, run_job
from mendloop.trainer.domain.limits import gpu_s_of_plan, gpu_s_of_run
from mendloop.trainer.finished import find_finished, keep_failure
from mendloop.trainer.ports import TrainingFailed


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("start"))


def _run(work: TrainingJob, *, start: Path, folder: Path, **options: Any) -> TrainingReport:
    places = {"start_dir": start, "work_dir": folder / "work", "out_dir": folder / "out"}
    return run_job(work, corpus=scan_examples(40), batch=None, torch_threads=1, **places, **options)


def _failure(work: TrainingJob, *, start: Path, folder: Path, **options: Any) -> TrainingFailure:
    with pytest.raises(TrainingFailed) as caught:
        _run(work, start=start, folder=folder, **options)
    return caught.value.failure


def test_the_step_that_reaches_the_limit_is_the_last(start: Path, tmp_path: Path) -> None:
    done: list[int] = []
    work = job(steps=12)

    failure = _failure(
        work,
        start=start,
        folder=tmp_path,
        on_step=lambda step, token_count: done.append(step),
        gpu_s_limit=4.5,
        gpu_s=lambda wall_s: float(len(done)),  # each step is one second
    )

    assert done == [1, 2, 3, 4, 5]
    assert (failure.cause, failure.step, failure.gpu_s, failure.gpu_s_limit) == ("budget", 5, 5.0, 4.5)
    assert "its GPU-seconds are spent: 5.0 of 4.5 after step 5 of 12" in failure.reason
    assert 0 < failure.token_count < _run(work, start=start, folder=tmp_path / "full").token_count
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "work").glob("*/checkpoint-*"))


def test_seconds_of_the_clock_end_a_training_too(start: Path, tmp_path: Path) -> None:
    work = job(steps=5_000)

    failure = _failure(work, start=start, folder=tmp_path, gpu_s_limit=1.0, gpu_s=lambda wall_s: wall_s)

    assert failure.cause == "budget"
    assert failure.step < 5_000
    assert 1.0 <= failure.gpu_s == pytest.approx(failure.wall_s, abs=0.5)


def test_a_limit_that_is_spent_before_the_first_step_allows_none(start: Path, tmp_path: Path) -> None:
    failure = _failure(job(), start=start, folder=tmp_path, gpu_s_limit=0.0, gpu_s=lambda wall_s: wall_s)

    assert (failure.cause, failure.step, failure.token_count) == ("budget", 0, 0)


def test_a_limit_that_is_not_reached_changes_no_byte(start: Path, tmp_path: Path) -> None:
    work = job()

    _run(work, start=start, folder=tmp_path / "a")
    _run(work, start=start, folder=tmp_path / "b", gpu_s_limit=1e9, gpu_s=lambda wall_s: wall_s)

    one, other = ((tmp_path / name / "out" / "model.safetensors").read_bytes() for name in "ab")
    assert one == other


def test_a_training_on_a_cpu_counts_no_gpu_second() -> None:
    assert gpu_seconds(100.0) == (100.0 if torch.cuda.is_available() else 0.0)


def test_unhealthy_data_fails_with_every_reading_and_no_step(start: Path, tmp_path: Path) -> None:
    failure = _failure(job(eos_in_loss=False), start=start, folder=tmp_path)

    assert (failure.cause, failure.step, failure.token_count, failure.flops) == ("unhealthy", 0, 0, 0.0)
    assert "eos_in_loss: EOS carries loss in 0 of" in failure.reason
    assert "eos_in_loss" in [check.name for check in failure.health if not check.passed]
    assert "label_mask" in [check.name for check in failure.health if check.passed]
    assert TrainingFailure.of(failure.document()) == failure


def test_a_token_limit_without_a_step_is_refused_as_data_is(start: Path, tmp_path: Path) -> None:
    failure = _failure(job(token_limit=3), start=start, folder=tmp_path)

    assert failure.cause == "unhealthy"
    assert "the token limit 3 allows no step" in failure.reason


@pytest.mark.parametrize(("asked", "is_refused"), [(2.0, True), (4.5, True), (5.0, False), (None, False)])
def test_a_job_that_its_limit_stopped_is_trained_anew_where_it_may_take_longer(
    tmp_path: Path, asked: float | None, is_refused: bool
) -> None:
    store, work = ArtifactStore(tmp_path), job()
    stopped = TrainingFailure(work, (), "budget", "spent", 5, (), (), (), 9, 5.0, 5.0, 1.0, 4.5)
    keep_failure(store, stopped)

    if is_refused:
        with pytest.raises(TrainingFailed, match="spent"):
            find_finished(store, work, gpu_s_limit=asked)
        return
    assert find_finished(store, work, gpu_s_limit=asked) is None


def test_a_job_that_failed_for_another_cause_fails_at_any_limit(tmp_path: Path) -> None:
    store, work = ArtifactStore(tmp_path), job()
    stopped = TrainingFailure(work, (), "budget", "spent", 5, (), (), (), 9, 5.0, 5.0, 1.0, 4.5)
    keep_failure(store, replace(stopped, cause="diverged", gpu_s_limit=None))

    with pytest.raises(TrainingFailed):
        find_finished(store, work, gpu_s_limit=None)


def test_limits_are_what_is_left_of_the_plan_and_all_of_the_run() -> None:
    assert gpu_s_of_plan(0.0, before_s=3.0) is None
    assert gpu_s_of_plan(10.0, before_s=3.0) == 7.0
    assert gpu_s_of_plan(2.0, before_s=3.0) == 0.0
    assert gpu_s_of_run(BudgetSettings()) is None
    assert gpu_s_of_run(BudgetSettings(gpu_s=0.0)) == 0.0
    priced = {"money": 2.0, "prices": {"gpu_hour": 3600.0}}
    assert gpu_s_of_run(BudgetSettings.model_validate(priced)) == 2.0
    assert gpu_s_of_run(BudgetSettings.model_validate({**priced, "gpu_s": 1.5})) == 1.5
