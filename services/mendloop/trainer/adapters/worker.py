"""One process of a training that several do together: `torchrun -m mendloop.trainer.adapters.worker FOLDER`.

The first process reports into the folder; the others keep quiet. Ends with code 0 for a report, 3 for an error that
stands in the result.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from mendloop.bus.wiring import open_store
from mendloop.core.errors import MendloopError
from mendloop.core.telemetry import log_to_stderr
from mendloop.core.training import TrainingReport
from mendloop.trainer.adapters.hf_training import run_job
from mendloop.trainer.adapters.processes import PROGRESS, STOP, Request, error_document, write_result
from mendloop.trainer.adapters.ranks import is_first, wait_for_all
from mendloop.trainer.adapters.resume_points import job_lock
from mendloop.trainer.adapters.rows import batch_of, corpus_of

log = logging.getLogger(__name__)
ERROR = 3
GRACE_S = 20.0
"""How long another process than the first waits for that one to say what went wrong; then torchrun ends them all."""


def main() -> None:
    """Take part in the training of the folder."""
    folder = Path(sys.argv[1])
    PartialState(cpu=not torch.cuda.is_available())
    log_to_stderr("trainer", level="INFO" if is_first() else "WARNING")
    try:
        report = _train(Request.read(folder), folder=folder)
    except MendloopError as error:
        if is_first():
            write_result(folder, error_document(error))
        else:
            log.warning("a process of the training failed", extra={"reason": str(error)})
            time.sleep(GRACE_S)
        sys.exit(ERROR)
    if is_first():
        write_result(folder, {"report": report.document()})


def _train(request: Request, *, folder: Path) -> TrainingReport:
    """Only one group of processes works at a job: one that a killed service left behind ends first."""
    store, work_dir = open_store(request.store_uri), Path(request.work_dir)
    with ExitStack() as held:
        if is_first():
            held.enter_context(job_lock(work_dir / request.job.job_id / "running", is_stopping=lambda: False))
        wait_for_all()
        said = held.enter_context((folder / PROGRESS if is_first() else Path(os.devnull)).open("a"))

        def say(values: dict[str, Any]) -> None:
            said.write(json.dumps(values) + "\n")
            said.flush()

        return run_job(
            request.job,
            start_dir=Path(request.start_dir),
            corpus=corpus_of(store, request.job),
            batch=batch_of(store, request.job),
            work_dir=work_dir,
            out_dir=Path(request.out_dir),
            is_stopping=_stopping(folder, parent_pid=request.parent_pid),
            on_step=lambda step, token_count: say({"step": step, "token_count": token_count}),
            on_progress=lambda progress: say(asdict(progress)),
            torch_threads=request.torch_threads,
            peak_flops=request.peak_flops,
            strategy=request.strategy,
            gpu_s_limit=request.gpu_s_limit,
        )


def _stopping(folder: Path, *, parent_pid: int) -> Callable[[], bool]:
    """Whether somebody said so, or whether nobody is left who could."""

    def answer() -> bool:
        if (folder / STOP).exists():
            return True
        try:
            os.kill(parent_pid, 0)
        except ProcessLookupError:
            return True
        return False

    return answer


if __name__ == "__main__":
    main()
