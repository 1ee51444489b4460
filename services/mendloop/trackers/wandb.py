"""A run's record in Weights & Biases, online or into an offline folder. Needs wandb: mendloop[wandb]."""

from __future__ import annotations

import re
import tempfile
from collections import defaultdict
from pathlib import Path

from mendloop.core.errors import InvalidRecipe
from mendloop.trackers.record import RunRecord


def export(record: RunRecord, *, report: str, project: str, folder: Path | None, is_offline: bool) -> str:
    """The run's folder on this machine; `wandb sync` sends one that was written offline.

    The id is the run's, so that an export again goes to the same run. folder is where wandb writes.
    Raises InvalidRecipe where wandb is not installed.
    """
    try:
        import wandb
    except ImportError as error:
        raise InvalidRecipe("Weights & Biases is not installed: pip install 'mendloop[wandb]'") from error
    run = wandb.init(
        project=project,
        id=re.sub(r"[^\w-]", "-", record.run_id, flags=re.ASCII)[:128],
        name=record.run_id,
        dir=folder,
        config=dict(record.params),
        notes=record.summary,
        tags=[tag for tag in (record.outcome, *record.tags["mendloop.causes"].split(",")) if tag],
        mode="offline" if is_offline else None,
        resume=None if is_offline else "allow",
        settings=wandb.Settings(console="off", silent=True, disable_git=True, save_code=False),
    )
    with run:
        for step, values in sorted(_by_step(record).items()):
            run.log(values, step=step)
        run.summary.update({**record.tags, "outcome": record.outcome})
        with tempfile.TemporaryDirectory() as text:
            page = Path(text) / "report.html"
            page.write_text(report, encoding="utf-8")
            artifact = wandb.Artifact(f"report-{run.id}", type="report")
            artifact.add_file(str(page))
            run.log_artifact(artifact)
            place = str(Path(run.dir).parent)
            run.finish()
    return place


def _by_step(record: RunRecord) -> dict[int, dict[str, float]]:
    steps: dict[int, dict[str, float]] = defaultdict(dict)
    for point in record.points:
        steps[point.step][point.name] = point.value
    return steps
