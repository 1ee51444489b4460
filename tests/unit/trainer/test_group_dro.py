"""Trainings with group DRO: which group gets the weight, what stays as without it, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training import job, scan_examples, tiny_checkpoint

from mendloop.core.errors import Permanent
from mendloop.core.records import Example
from mendloop.core.training import TrainingJob, TrainingReport
from mendloop.trainer.adapters import hf_training
from mendloop.trainer.adapters.hf_training import run_job
from mendloop.trainer.ports import TrainingFailed


class Killed(BaseException):
    """What a test ends a training with between two resume points, which nothing may catch."""


EQUAL = {"axis": "rule", "rate": 1e-12, "smoothing": 0.0}


def _of(rows: Sequence[Example], group: str) -> list[Example]:
    return [replace(row, axes={"rule": (group,)}) for row in rows]


USUAL = _of(scan_examples(24), "usual")
RARE = [replace(row, completion="I_JUMP I_WALK", axes={"rule": ("rare",)}) for row in USUAL[::4]]
CORPUS = [*USUAL, *RARE]
"""Two groups that contradict each other: what one learns, the other loses."""


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("start"), dropout=0.1)


def _run(
    work: TrainingJob,
    *,
    start: Path,
    folder: Path,
    corpus: Sequence[Example] = CORPUS,
    dies_after: int = 0,
) -> TrainingReport:
    def on_step(step: int, token_count: int) -> None:
        if step == dies_after:
            raise Killed

    return run_job(
        work,
        start_dir=start,
        corpus=corpus,
        batch=None,
        work_dir=folder / "work",
        out_dir=folder / "out",
        on_step=on_step,
        torch_threads=1,
    )


def _bytes(folder: Path) -> bytes:
    return (folder / "out" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def plain_start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def learnt(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that answers every command of the rare group with the same two actions."""
    folder = tmp_path_factory.mktemp("learnt")
    _run(job(steps=60, learning_rate=1e-2, on_unhealthy="warn"), start=start, folder=folder, corpus=RARE)
    return folder / "out"


def test_the_weight_goes_to_the_group_that_gets_worse_than_it_was(learnt: Path, tmp_path: Path) -> None:
    settings = {"steps": 30, "learning_rate": 1e-2, "on_unhealthy": "warn"}
    work, equal = job(**settings, group_dro={"axis": "rule", "rate": 5.0}), job(**settings, group_dro=EQUAL)

    report = _run(work, start=learnt, folder=tmp_path / "dro", corpus=CORPUS)
    unweighed = _run(equal, start=learnt, folder=tmp_path / "equal", corpus=CORPUS)

    groups = {group.group: group for group in report.groups}
    assert (groups["rare"].row_count, groups["usual"].row_count) == (6, 24)
    assert groups["rare"].reference_loss < 0.5 < groups["usual"].reference_loss
    assert groups["rare"].weight > 0.7
    assert sum(group.weight for group in report.groups) == pytest.approx(1)
    assert groups["rare"].final_loss < {group.group: group.final_loss for group in unweighed.groups}["rare"]
    assert TrainingReport.of(report.document()) == report


def test_without_a_reference_the_weight_goes_to_the_highest_loss(learnt: Path, tmp_path: Path) -> None:
    asked = {"axis": "rule", "rate": 0.5, "reference": "none"}

    report = _run(job(steps=8, on_unhealthy="warn", group_dro=asked), start=learnt, folder=tmp_path, corpus=CORPUS)

    weight = {group.group: group.weight for group in report.groups}
    assert weight["usual"] > 0.8


@pytest.mark.parametrize("objective", ["sft", "pretrain"])
def test_equal_weights_give_the_loss_and_the_weights_of_a_training_without_groups(
    plain_start: Path, tmp_path: Path, objective: str
) -> None:
    settings = {"objective": objective, "steps": 4, "learning_rate": 1e-2, "on_unhealthy": "warn"}
    held_out = {"held_out_share": 0.2, "held_out_every": 2}
    without = _run(job(**settings, **held_out), start=plain_start, folder=tmp_path / "without")
    equal = _run(job(**settings, **held_out, group_dro=EQUAL), start=plain_start, folder=tmp_path / "equal")

    assert [loss for _, loss in equal.loss_curve] == pytest.approx([loss for _, loss in without.loss_curve], rel=1e-5)
    assert dict(equal.held_out_curve) == pytest.approx(dict(without.held_out_curve), rel=1e-5)
    for name, value in load_file(tmp_path / "without" / "out" / "model.safetensors").items():
        there = load_file(tmp_path / "equal" / "out" / "model.safetensors")[name]
        torch.testing.assert_close(there, value, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_killed_training_goes_on_with_the_same_weights_of_groups(start: Path, tmp_path: Path, method: str) -> None:
    asked = {"axis": "rule", "rate": 0.5}
    work = job(method=method, steps=8, learning_rate=3e-2, on_unhealthy="warn", group_dro=asked)
    whole = _run(work, start=start, folder=tmp_path / "whole")

    with pytest.raises(Killed):
        _run(work, start=start, folder=tmp_path / "cut", dies_after=5)
    resumed = _run(work, start=start, folder=tmp_path / "cut")

    assert len({group.weight for group in whole.groups}) == 2  # they moved
    assert resumed.groups == whole.groups
    assert resumed.loss_curve == whole.loss_curve
    assert _bytes(tmp_path / "cut") == _bytes(tmp_path / "whole")


@pytest.mark.parametrize(
    ("axis", "reason"), [("other", "has a value on the axis 'other'"), ("kind", "all 30 examples")]
)
def test_an_axis_without_two_groups_is_refused_before_any_step(
    start: Path, tmp_path: Path, axis: str, reason: str
) -> None:
    corpus = [replace(row, axes={**row.axes, "kind": ("command",)}) for row in CORPUS]

    with pytest.raises(TrainingFailed, match=reason) as failed:
        _run(job(steps=12, group_dro={"axis": axis}), start=start, folder=tmp_path, corpus=corpus)

    assert (failed.value.failure.cause, failed.value.failure.step) == ("unhealthy", 0)


def test_several_processes_are_refused(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf_training, "process_count", lambda: 2)

    with pytest.raises(Permanent, match="in one process, not 2"):
        _run(job(on_unhealthy="warn", group_dro={"axis": "rule"}), start=start, folder=tmp_path)
