"""Trains a job in several processes of this machine through torchrun: one request in, one result out, as files.

Knows folders and subprocesses; knows no tensor. The processes themselves: mendloop.trainer.adapters.worker.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mendloop.core.errors import CorruptArtifact, Interrupted, MendloopError, Permanent, Retryable
from mendloop.core.training import TrainingFailure, TrainingJob, TrainingReport
from mendloop.trainer.ports import Progress, TrainingFailed

REQUEST, PROGRESS, RESULT, STOP, LOG = "request.json", "progress.jsonl", "result.json", "stop", "log.txt"
WORKER = "mendloop.trainer.adapters.worker"
POLL_S = 0.2
STOP_S = 600.0
"""Longest time that processes get to write their resume point."""
LOG_TAIL = 1500
Strategy = Literal["ddp", "fsdp"]
_ERRORS: dict[str, type[MendloopError]] = {
    kind.__name__: kind for kind in (Interrupted, Retryable, CorruptArtifact, Permanent)
}


@dataclass(frozen=True, slots=True)
class Request:
    """What every process of a training needs to know."""

    job: TrainingJob
    store_uri: str
    start_dir: str
    work_dir: str
    out_dir: str
    torch_threads: int
    peak_flops: float
    strategy: Strategy
    parent_pid: int
    gpu_s_limit: float | None = None

    def write(self, folder: Path) -> None:
        """Put the request into an empty folder."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / REQUEST).write_text(json.dumps({**asdict(self), "job": self.job.document()}))

    @staticmethod
    def read(folder: Path) -> Request:
        """The request of a folder."""
        document = json.loads((folder / REQUEST).read_text())
        return Request(**{**document, "job": TrainingJob.of(document["job"])})


def torchrun(process_count: int, *, worker: str = WORKER) -> list[str]:
    """The command that runs a module in so many processes of this machine; the folder comes behind it."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={process_count}"]
    return [*command, "-m", worker]


def train_in_processes(
    request: Request,
    *,
    command: Sequence[str],
    folder: Path,
    is_stopping: Callable[[], bool],
    on_step: Callable[[int, int], None],
    on_progress: Callable[[Progress], None],
) -> TrainingReport:
    """Train with the processes of a command; errors are those of run_job, raised here again.

    Raises Retryable, with the end of their log, where a process died without saying why: the resume points are kept.
    """
    request.write(folder)
    with (folder / LOG).open("wb") as log, _running([*command, str(folder)], log=log) as processes:
        lines = _Lines(folder / PROGRESS)
        while processes.poll() is None:
            _pass_on(lines.new(), on_step=on_step, on_progress=on_progress)
            if is_stopping():
                (folder / STOP).touch()
            time.sleep(POLL_S)
    _pass_on(lines.new(), on_step=on_step, on_progress=on_progress)
    return _result(folder, exit_code=processes.returncode)


def write_result(folder: Path, document: dict[str, object]) -> None:
    """Say how it ended, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)  # a training that diverged took everything of its job away
    partial = folder / f".{RESULT}"
    partial.write_text(json.dumps(document))
    os.replace(partial, folder / RESULT)


def error_document(error: MendloopError) -> dict[str, object]:
    """An error as JSON values."""
    failure = error.failure.document() if isinstance(error, TrainingFailed) else None
    kind = next(name for name, known in _ERRORS.items() if isinstance(error, known))
    return {"error": kind, "message": str(error), "failure": failure}


@contextmanager
def _running(command: Sequence[str], *, log: Any) -> Iterator[subprocess.Popen[bytes]]:
    """The processes; they end where the block is left by an error."""
    processes = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield processes
    finally:
        if processes.poll() is None:
            processes.terminate()
            try:
                processes.wait(STOP_S)
            except subprocess.TimeoutExpired:
                processes.kill()
                processes.wait()


class _Lines:
    """The lines that a growing file got since the last look."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def new(self) -> list[str]:
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole = file.read().rpartition(b"\n")[0]
        self._offset += len(whole) + 1 if whole else 0
        return whole.decode().splitlines()


def _pass_on(lines: list[str], *, on_step: Callable[[int, int], None], on_progress: Callable[[Progress], None]) -> None:
    for line in lines:
        values = json.loads(line)
        if "token_count" in values:
            on_step(values["step"], values["token_count"])
        else:
            on_progress(Progress(**values))


def _result(folder: Path, *, exit_code: int) -> TrainingReport:
    try:
        document = json.loads((folder / RESULT).read_text())
    except FileNotFoundError:
        said = (folder / LOG).read_text(errors="replace")[-LOG_TAIL:].strip()
        raise Retryable(
            f"the training's processes ended with exit code {exit_code} and no result; their log ends: {said}"
        ) from None
    if "report" in document:
        return TrainingReport.of(document["report"])
    if document["failure"] is not None:
        raise TrainingFailed(TrainingFailure.of(document["failure"]))
    raise _ERRORS[document["error"]](document["message"])
