"""Trainings that are killed, and disks that are full: real processes, real signals, a real file system."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import pytest
from training import job, tiny_checkpoint, train_with_trace

from mendloop.core.training import TrainingJob
from mendloop.trainer.adapters.resume_points import newest_point

DEADLINE_S = 180
STEPS = 60
JOB = job(steps=STEPS, batch=True, save_steps=4, learning_rate=5e-3)
TESTS = Path(__file__).resolve().parents[1]

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def processes() -> Iterator[ForkServerContext]:
    """Children of a server that has torch loaded: a fresh process without the seconds of its imports."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")])))
        patch.setenv("OMP_NUM_THREADS", "1")
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["training"])
        yield context


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("start"), dropout=0.1)


@pytest.fixture(scope="module")
def whole(processes: ForkServerContext, start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    _finish(_begin(processes, start=start, folder=folder))
    return folder


def _begin(processes: ForkServerContext, *, start: Path, folder: Path, work: TrainingJob = JOB) -> ForkServerProcess:
    process = processes.Process(target=train_with_trace, args=(work,), kwargs={"start": start, "folder": folder})
    process.start()
    return process


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _finish(process: ForkServerProcess) -> None:
    process.join(DEADLINE_S)
    assert process.exitcode == 0


def _steps(folder: Path) -> list[int]:
    path = folder / "steps"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def _kill_after(process: ForkServerProcess, *, step: int, delay_s: float, folder: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while step not in _steps(folder):
        assert process.is_alive(), f"the training ended before step {step}"
        assert time.monotonic() < deadline, f"step {step} did not come within {DEADLINE_S} s"
        time.sleep(0.002)
    time.sleep(delay_s)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(DEADLINE_S)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_training_killed_twice_ends_with_the_same_bytes(
    processes: ForkServerContext, start: Path, whole: Path, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    first, second = rng.randint(5, 25), rng.randint(30, 50)
    for step in (first, second):
        process = _begin(processes, start=start, folder=tmp_path)
        _kill_after(process, step=step, delay_s=rng.uniform(0, 0.02), folder=tmp_path)

    _finish(_begin(processes, start=start, folder=tmp_path))

    names = sorted(path.name for path in (whole / "out").iterdir())
    assert "model.safetensors" in names
    assert names == sorted(path.name for path in (tmp_path / "out").iterdir())
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (whole / "out" / name).read_bytes(), name
    assert (tmp_path / "report.json").read_bytes() == (whole / "report.json").read_bytes()
    assert len(json.loads((whole / "report.json").read_text())["curve"]) == STEPS
    assert STEPS <= len(_steps(tmp_path)) < STEPS + 2 * (JOB.settings.save_steps + 1)


def test_a_killed_training_of_adapters_ends_with_the_same_bytes(
    processes: ForkServerContext, start: Path, tmp_path: Path
) -> None:
    work = job(steps=16, save_steps=4, learning_rate=5e-3, method="lora", lora_rank=4)
    _finish(_begin(processes, start=start, folder=_made(tmp_path / "whole"), work=work))
    process = _begin(processes, start=start, folder=_made(tmp_path / "cut"), work=work)
    _kill_after(process, step=10, delay_s=0, folder=tmp_path / "cut")

    _finish(_begin(processes, start=start, folder=tmp_path / "cut", work=work))

    for name in ("model.safetensors", "adapter/adapter_model.safetensors", "adapter/adapter_config.json"):
        whole, cut = ((tmp_path / folder / "out" / name).read_bytes() for folder in ("whole", "cut"))
        assert whole == cut, name
    assert 16 < len(_steps(tmp_path / "cut")) <= 16 + 4


def test_a_resume_point_torn_after_the_kill_is_passed_over(
    processes: ForkServerContext, start: Path, whole: Path, tmp_path: Path
) -> None:
    process = _begin(processes, start=start, folder=tmp_path)
    _kill_after(process, step=22, delay_s=0, folder=tmp_path)
    points = tmp_path / "work" / JOB.job_id
    newest = newest_point(points)
    assert newest is not None
    optimizer = newest.path / "optimizer.pt"
    optimizer.write_bytes(optimizer.read_bytes()[: optimizer.stat().st_size // 2])

    _finish(_begin(processes, start=start, folder=tmp_path))

    seen = _steps(tmp_path)
    assert seen.count(newest.step - 1) == 2  # trained again, because the point before was used
    weights = Path("out") / "model.safetensors"
    assert (tmp_path / weights).read_bytes() == (whole / weights).read_bytes()


FULL_DISK = """
import sys
from pathlib import Path
from training import job, scan_examples
from mendloop.core.errors import Retryable
from mendloop.trainer.adapters.hf_training import run_job

start, roomy = Path(sys.argv[1]), Path(sys.argv[2])
for disk in sorted(path for path in roomy.iterdir() if path.is_dir()):
    where = disk.name.partition("-")[0]
    try:
        run_job(
            job(steps=6, save_steps=2),
            start_dir=start,
            corpus=scan_examples(40),
            batch=None,
            work_dir=(disk if where == "work" else roomy / "run") / "work",
            out_dir=(disk if where == "out" else roomy / "run") / "out",
        )
        print(disk.name, "finished")
    except Retryable as error:
        print(disk.name, "is worth another try:", "no space to write" in str(error))
    left = sorted(path.name[:9] for path in (disk / "work").rglob("*") if path.name.startswith(".staging-"))
    print(disk.name, "half points:", left)
"""
DISKS = {"out-08": 8, "out-40": 40, "work-008": 8, "work-040": 40, "work-072": 72, "work-120": 120}
"""KiB of each small disk: a checkpoint has 44, a resume point 160, so each file of both meets the end once."""


def test_a_full_disk_is_worth_another_try_and_leaves_no_half_point(start: Path, tmp_path: Path) -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("needs unshare with user namespaces, to mount small file systems")
    (tmp_path / "full.py").write_text(FULL_DISK)
    disks = tmp_path / "disks"
    for name in DISKS:
        (disks / name).mkdir(parents=True)
    mounts = [f'mount -t tmpfs -o size={kib}k none "{disks / name}"' for name, kib in DISKS.items()]

    script = "\n".join([*mounts, 'exec "$@"'])

    done = subprocess.run(
        ["unshare", "-rm", "sh", "-ec", script, "sh", sys.executable, "full.py", str(start), str(disks)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )

    expected = [line for name in DISKS for line in (f"{name} is worth another try: True", f"{name} half points: []")]
    assert done.stdout.splitlines() == expected
