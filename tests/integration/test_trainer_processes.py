"""Trainings of two processes over gloo: real torchrun, real signals."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training import job, scan_examples, tiny_checkpoint

from mendloop.artifacts.store import ArtifactStore
from mendloop.artifacts.tables import put_rows
from mendloop.core.errors import Retryable
from mendloop.core.records import Example
from mendloop.core.telemetry import Telemetry
from mendloop.core.training import TrainingJob
from mendloop.models.checkpoint import open_checkpoint, save_checkpoint
from mendloop.trainer.adapters.stored_training import StoredTraining
from mendloop.trainer.ports import Trained

DEADLINE_S = 600
TESTS = Path(__file__).resolve().parents[1]
pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ArtifactStore:
    return ArtifactStore(tmp_path_factory.mktemp("artifacts"))


@pytest.fixture(scope="module")
def work(store: ArtifactStore, tmp_path_factory: pytest.TempPathFactory) -> TrainingJob:
    start = save_checkpoint(store, tiny_checkpoint(tmp_path_factory.mktemp("start")))
    plan = job(steps=24, learning_rate=1e-2, held_out_share=0.25, held_out_every=6, save_steps=1)
    return replace(plan, start=start, corpus=put_rows(store, scan_examples(40), kind=Example))


def _train(
    store: ArtifactStore,
    work: TrainingJob,
    folder: Path,
    *,
    telemetry: Telemetry | None = None,
    **options: Any,
) -> Trained:
    backend = StoredTraining(
        store, work_dir=folder, telemetry=telemetry or Telemetry("trainer"), torch_threads=1, **options
    )
    return backend.train(work, is_stopping=lambda: False)


@pytest.fixture(scope="module")
def alone(store: ArtifactStore, work: TrainingJob, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return _train(store, work, tmp_path_factory.mktemp("alone"))


def _weights(store: ArtifactStore, trained: Trained, folder: Path) -> dict[str, torch.Tensor]:
    return load_file(open_checkpoint(store, trained.checkpoint, cache=folder) / "model.safetensors")


@pytest.fixture(scope="module")
def telemetry() -> Telemetry:
    return Telemetry("trainer")


@pytest.fixture(scope="module")
def together(
    store: ArtifactStore, work: TrainingJob, telemetry: Telemetry, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    return _train(store, work, tmp_path_factory.mktemp("together"), telemetry=telemetry, processes=2)


def _is_as(ours: Trained, theirs: Trained, *, store: ArtifactStore, folder: Path) -> None:
    losses, expected = ours.report.loss_curve, theirs.report.loss_curve
    assert [step for step, _ in losses] == [step for step, _ in expected]
    assert [loss for _, loss in losses] == pytest.approx([loss for _, loss in expected], rel=1e-4)
    assert ours.report.held_out_curve[-1][1] == pytest.approx(theirs.report.held_out_curve[-1][1], rel=1e-4)
    norms = zip(ours.report.gradient_norms, theirs.report.gradient_norms, strict=True)
    assert all(our[1] == pytest.approx(their[1], rel=1e-3) for our, their in norms)
    assert (ours.report.process_count, ours.report.token_count) == (2, theirs.report.token_count)
    assert ours.report.health == theirs.report.health
    for name, value in _weights(store, theirs, folder).items():
        torch.testing.assert_close(_weights(store, ours, folder)[name], value, rtol=1e-2, atol=1e-4, msg=name)


def test_two_processes_learn_what_one_learns_from_the_same_batches(
    store: ArtifactStore, alone: Trained, together: Trained, tmp_path: Path
) -> None:
    _is_as(together, alone, store=store, folder=tmp_path)


def test_the_first_process_reports_for_all(together: Trained, telemetry: Telemetry) -> None:
    counted = telemetry.registry.get_sample_value("mendloop_tokens_total", {"service": "trainer", "use": "train"})
    shown = telemetry.registry.get_sample_value("mendloop_training_loss", {"service": "trainer", "part": "train"})
    assert counted == together.report.token_count
    assert shown == pytest.approx(together.report.loss_curve[-1][1])


def test_processes_that_are_killed_go_on_and_end_with_the_same_bytes(
    store: ArtifactStore, work: TrainingJob, together: Trained, tmp_path: Path
) -> None:
    killer = threading.Thread(target=_kill_a_worker_after_a_point, args=(tmp_path / "training" / work.job_id,))
    killer.start()
    with pytest.raises(Retryable, match="ended with exit code"):
        _train(store, work, tmp_path, processes=2)
    killer.join(DEADLINE_S)

    resumed = _train(store, work, tmp_path, processes=2)

    assert resumed.checkpoint.sha256 == together.checkpoint.sha256
    assert resumed.report.loss_curve == together.report.loss_curve


SHARDED: dict[str, Any] = {"processes": 2, "strategy": "fsdp", "worker": "fsdp_on_cpu"}


@pytest.fixture(scope="module")
def sharded(
    store: ArtifactStore, work: TrainingJob, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Trained, Path]]:
    """A training in parts, and the folder of its resume points."""
    folder = tmp_path_factory.mktemp("sharded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]))
        yield _train(store, work, folder, **SHARDED), folder / "training" / work.job_id


def test_sharded_weights_learn_the_same(
    store: ArtifactStore, alone: Trained, sharded: tuple[Trained, Path], tmp_path: Path
) -> None:
    trained, points = sharded

    assert list(points.glob("step-*/pytorch_model_fsdp.bin"))  # no silent ddp
    _is_as(trained, alone, store=store, folder=tmp_path / "cache")


@pytest.mark.deploy
def test_sharded_processes_that_are_killed_go_on_and_end_with_the_same_bytes(
    store: ArtifactStore, work: TrainingJob, sharded: tuple[Trained, Path], tmp_path: Path
) -> None:
    killer = threading.Thread(target=_kill_a_worker_after_a_point, args=(tmp_path / "training" / work.job_id,))
    killer.start()
    with pytest.raises(Retryable, match="ended with exit code"):
        _train(store, work, tmp_path, **SHARDED)
    killer.join(DEADLINE_S)

    resumed = _train(store, work, tmp_path, **SHARDED)

    assert resumed.report.loss_curve == sharded[0].report.loss_curve
    assert resumed.checkpoint.sha256 == sharded[0].checkpoint.sha256


def _kill_a_worker_after_a_point(points: Path) -> None:
    """Find a worker while it still loads torch; kill it as soon as there is something to go on from."""
    deadline = time.monotonic() + DEADLINE_S
    while not (workers := _workers(points)):
        assert time.monotonic() < deadline, "no process of the training came"
        time.sleep(0.05)
    while not list(points.glob("step-*")):
        assert time.monotonic() < deadline, "no resume point came"
        time.sleep(0.001)
    os.kill(workers[0], signal.SIGKILL)


def _workers(points: Path) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if str(points).encode() in b" ".join(words) and b"torch.distributed.run" not in words:
            found.append(int(path.parent.name))
    return found
