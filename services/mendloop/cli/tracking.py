"""`mend export-run`: a finished run goes to an experiment tracker. Knows options and words."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mendloop.cli.deployment import Deployment
from mendloop.cli.screen import output
from mendloop.cli.viewing import view_of


class Tracker(StrEnum):
    """Where to."""

    mlflow = "mlflow"
    wandb = "wandb"


def export_run(
    context: typer.Context,
    run_id: Annotated[str, typer.Argument(help="Id of the run, as `mend status` shows it; it must be over.")],
    to: Annotated[Tracker, typer.Option(help="The tracker.")],
    tracking_uri: Annotated[str, typer.Option(help="MLflow's store; default: MLFLOW_TRACKING_URI.")] = "",
    project: Annotated[str, typer.Option(help="MLflow's experiment, or wandb's project.")] = "mendloop",
    folder: Annotated[Path | None, typer.Option(help="Where wandb writes; default: ./wandb.")] = None,
    offline: Annotated[bool, typer.Option(help="wandb: write a folder for `wandb sync`, send nothing.")] = False,
) -> None:
    """Send a run's parameters, metrics a round and report to MLflow or Weights & Biases."""
    from mendloop.report.page import render
    from mendloop.report.summary import summarize
    from mendloop.trackers import mlflow, wandb
    from mendloop.trackers.record import record_of

    target: Deployment = context.obj
    store, console = target.store(), output()
    view = view_of(target, run_id)
    record = record_of(view, store=store)
    report = render([summarize(view, store=store)], title=f"Run {run_id}", subtitle=view.summary)
    if to is Tracker.mlflow:
        made, is_new = mlflow.export(record, report=report, tracking_uri=tracking_uri, experiment=project)
        done = f"is MLflow's run {made}" if is_new else f"is there already as MLflow's run {made}; nothing was sent"
    else:
        place = wandb.export(record, report=report, project=project, folder=folder, is_offline=offline)
        done = f"was written to {place}; `wandb sync` sends it" if offline else f"was sent; its files are in {place}"
    console.print(f"run {run_id} {done}", highlight=False, soft_wrap=True)
    for reason, count in record.left_out.items():
        console.print(f"  left out: {count} {reason}", highlight=False)
