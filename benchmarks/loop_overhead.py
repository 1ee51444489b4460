"""What the loop costs over the bare calls: the same training and evaluations in one process, without bus or services.

`python benchmarks/loop_overhead.py --help` says what is compared.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.artifacts.tables import get_rows
from mendloop.cli.demo import SCENARIOS, run_scenarios
from mendloop.cli.deployment import Deployment, deployment_at
from mendloop.core.records import Example, Item
from mendloop.core.run_spec import RunSpec
from mendloop.core.training import TrainingReport
from mendloop.models.checkpoint import open_checkpoint
from mendloop.models.transformers_backend import load_model
from mendloop.runs.model import RunView
from mendloop.trainer.adapters.hf_training import run_job

GOAL = 1.25


@dataclass(frozen=True, slots=True)
class Pair:
    """One repetition. Seconds; the loop's from the first event to the last."""

    loop_s: float
    bare_s: float
    diagnosis_s: float
    generation_s: float

    @property
    def ratio(self) -> float:
        """The loop against bare training and evaluation."""
        return self.loop_s / self.bare_s

    @property
    def ratio_with_diagnosis(self) -> float:
        """The loop against all work that a person without it would do, too: diagnosis and data included."""
        return self.loop_s / (self.bare_s + self.diagnosis_s + self.generation_s)


def main(
    repetitions: Annotated[int, typer.Option(help="Pairs of a loop and a bare run, one after the other.")] = 3,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    bare: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the SCAN data scenario through six processes, then the same training and the same two evaluations bare.

    Services are started and ready before the clock starts, as the bare process has imported torch before its clock
    starts. The bare process repeats the job and the items of the loop that ran just before it, on one thread like the
    services, and loads each checkpoint once. The second ratio adds the loop's own diagnosis and data generation, as
    the services metered them, to the bare side: work that somebody would have to do without the loop as well.
    """
    if bare is not None:
        typer.echo(json.dumps({"bare_s": _bare_seconds(json.loads(bare.read_text()))}))
        return
    console = Console()
    pairs = [_pair(console) for _ in range(repetitions)]
    _print(console, pairs)
    if json_path is not None:
        machine = {"cores": os.cpu_count(), "python": platform.python_version()}
        json_path.write_text(json.dumps({"machine": machine, "pairs": [asdict(pair) for pair in pairs]}, indent=1))


def _pair(console: Console) -> Pair:
    with tempfile.TemporaryDirectory(prefix="mendloop-overhead-") as folder:
        deployment = deployment_at(Path(folder), bus_url="local", threads=1)
        [view] = run_scenarios(deployment, SCENARIOS[:1], console=console)
        assert view.started_at is not None
        assert view.finished_at is not None
        plan = Path(folder) / "bare.json"
        plan.write_text(json.dumps(_work_of(view, deployment)))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [sys.executable, __file__, "--bare", str(plan)], env=environment, capture_output=True, text=True, check=True
        )
        return Pair(
            loop_s=(view.finished_at - view.started_at).total_seconds(),
            bare_s=json.loads(done.stdout.splitlines()[-1])["bare_s"],
            diagnosis_s=sum(diagnosis.cost.wall_s for part in view.rounds for diagnosis in part.diagnoses),
            generation_s=sum(part.batch.cost.wall_s for part in view.rounds if part.batch),
        )


def _work_of(view: RunView, deployment: Deployment) -> dict[str, object]:
    """What the loop evaluated and trained, by name."""
    base, candidate = view.rounds[0].checkpoint, view.rounds[1].checkpoint
    assert base is not None
    assert candidate is not None
    assert view.request is not None
    assert view.request.run_spec is not None
    assert candidate.training_report is not None
    return {
        "artifacts": deployment.artifacts_uri,
        "sealed": deployment.sealed_uri,
        "spec": asdict(view.request.run_spec),
        "report": asdict(candidate.training_report),
    }


def _bare_seconds(work: dict[str, dict[str, str]]) -> float:
    store = ArtifactStore(str(work["artifacts"]))
    sealed_store = ArtifactStore(str(work["sealed"]))
    spec = RunSpec.load(store, _artifact(work["spec"]))
    job = TrainingReport.load(store, _artifact(work["report"])).job
    assert spec.sealed_items is not None
    assert job.batch is not None
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        items = [*get_rows(store, spec.items, kind=Item), *get_rows(sealed_store, spec.sealed_items, kind=Item)]
        corpus, batch = (get_rows(store, rows, kind=Example) for rows in (job.corpus, job.batch))
        start = open_checkpoint(store, job.start, cache=Path(folder))
        _evaluate(start, spec, items)
        out = Path(folder) / "candidate"
        run_job(job, start_dir=start, corpus=corpus, batch=batch, work_dir=Path(folder), out_dir=out, torch_threads=1)
        _evaluate(out, spec, items)
        return time.monotonic() - started


def _evaluate(directory: Path, spec: RunSpec, items: list[Item]) -> float:
    """Accuracy, with the telemetry that an outcome carries: generation and the target's log-probabilities."""
    model, task = load_model(directory), spec.task()
    prompts = [spec.prompt(item.prompt) for item in items]
    outputs = model.generate(prompts, max_new_tokens=spec.recipe.suite.max_new_tokens)
    model.logprobs(prompts, [item.target for item in items])
    return sum(task.score(item, out.text).value for item, out in zip(items, outputs, strict=True)) / len(items)


def _artifact(document: dict[str, str]) -> Artifact:
    return Artifact(document["uri"], document["sha256"], int(document["byte_count"]), document["media_type"])


def _print(console: Console, pairs: list[Pair]) -> None:
    table = Table(
        "repetition", "loop s", "bare s", "diagnosis s", "data s", "loop / bare", "loop / (bare + diagnosis + data)"
    )
    for number, pair in enumerate(pairs, start=1):
        figures = (pair.loop_s, pair.bare_s, pair.diagnosis_s, pair.generation_s)
        ratios = (pair.ratio, pair.ratio_with_diagnosis)
        table.add_row(str(number), *(f"{value:.1f}" for value in figures), *(f"{value:.2f}" for value in ratios))
    console.print(table)
    median = statistics.median(pair.ratio for pair in pairs)
    fair = statistics.median(pair.ratio_with_diagnosis for pair in pairs)
    console.print(f"median ratio {median:.2f} (goal {GOAL}); with diagnosis and data on the bare side too {fair:.2f}")


if __name__ == "__main__":
    typer.run(main)
