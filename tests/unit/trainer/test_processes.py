"""What the service and the processes of a training tell each other, with a light process in their place."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

from mendloop.artifacts.store import Artifact
from mendloop.core.errors import CorruptArtifact, Interrupted, MendloopError, Permanent, Retryable
from mendloop.core.recipe import TrainSettings
from mendloop.core.training import HealthCheck, TrainingFailure, TrainingJob, TrainingReport
from mendloop.trainer.adapters.processes import PROGRESS, RESULT, Request, error_document, train_in_processes
from mendloop.trainer.ports import Progress, TrainingFailed

NOTHING = Artifact("", "0" * 64, 0, "application/octet-stream")
JOB = TrainingJob(NOTHING, NOTHING, None, 0.0, TrainSettings(steps=3), "{prompt}", 1, 0)
REPORT = TrainingReport(
    job=JOB,
    health=(HealthCheck("eos_in_loss", True, 1.0, "all"),),
    loss_curve=((1, 2.5), (3, 1.5)),
    step_count=3,
    token_count=90,
    wall_s=1.5,
    flops=8.0,
    stopped_early="",
    held_out_curve=((2, 2.0),),
    mfu=0.25,
    process_count=2,
)
FAILURE = TrainingFailure(JOB, (), "not_finite", "it broke", 3, ((1, 2.0),), (2.0, math.nan), (), 9, 1.0, 0.0, 4.0)
SAYS = "import pathlib, sys; folder = pathlib.Path(sys.argv[1]); "


class Told:
    """Remembers what a training tells."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.progress: list[Progress] = []
        self.stopping = False

    def train(self, script: str, folder: Path) -> TrainingReport:
        request = Request(JOB, "file:///store", "start", str(folder), "out", 1, 0.0, "ddp", 1)
        return train_in_processes(
            request,
            command=[sys.executable, "-c", SAYS + script],
            folder=folder / "processes",
            is_stopping=lambda: self.stopping,
            on_step=lambda step, token_count: self.steps.append((step, token_count)),
            on_progress=self.progress.append,
        )


def _writes(name: str, text: str) -> str:
    return f"(folder / {name!r}).write_text({text!r}); "


def test_steps_figures_and_report_come_through(tmp_path: Path) -> None:
    told = Told()
    progress = Progress(2, loss=2.0, gradient_norm=1.0, tokens_per_s=30.0, held_out_loss=None)
    lines = [
        {"step": 1, "token_count": 30},
        {"step": 2, "loss": 2.0, "gradient_norm": 1.0, "tokens_per_s": 30.0, "held_out_loss": None},
    ]
    said = "".join(json.dumps(line) + "\n" for line in lines)

    report = told.train(_writes(PROGRESS, said) + _writes(RESULT, json.dumps({"report": REPORT.document()})), tmp_path)

    assert report == REPORT
    assert (told.steps, told.progress) == ([(1, 30)], [progress])


def test_a_request_is_read_as_it_was_written(tmp_path: Path) -> None:
    request = Request(JOB, "file:///store", "start", "work", "out", 2, 1e12, "fsdp", 7)

    request.write(tmp_path / "processes")

    assert Request.read(tmp_path / "processes") == request


@pytest.mark.parametrize(
    "error", [Interrupted("stopped"), Retryable("disk"), Permanent("unhealthy"), CorruptArtifact("changed")]
)
def test_an_error_of_the_processes_is_the_same_error_here(error: MendloopError, tmp_path: Path) -> None:
    with pytest.raises(type(error), match=str(error)) as caught:
        Told().train(_writes(RESULT, json.dumps(error_document(error))) + "sys.exit(3)", tmp_path)

    assert type(caught.value) is type(error)


def test_a_failed_training_brings_its_evidence(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match="it broke") as caught:
        Told().train(_writes(RESULT, json.dumps(error_document(TrainingFailed(FAILURE)))), tmp_path)

    failure = caught.value.failure
    assert (failure.job, failure.cause, failure.loss_curve) == (JOB, "not_finite", ((1, 2.0),))
    assert math.isnan(failure.last_losses[-1])


def test_processes_that_die_without_a_word_are_worth_another_try_and_their_log_is_told(tmp_path: Path) -> None:
    with pytest.raises(Retryable, match=r"(?s)exit code 5 and no result; their log ends: .*out of memory"):
        Told().train("print('out of memory', flush=True); sys.exit(5)", tmp_path)


def test_a_stop_reaches_the_processes(tmp_path: Path) -> None:
    told = Told()
    told.stopping = True
    waits = "import time\nwhile not (folder / 'stop').exists(): time.sleep(0.01)\n"

    with pytest.raises(Interrupted, match="stopped"):
        told.train(waits + _writes(RESULT, json.dumps(error_document(Interrupted("stopped")))), tmp_path)
