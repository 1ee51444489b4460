"""A run's record in MLflow, on any tracking store. Needs mlflow-skinny or mlflow: mendloop[mlflow]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

from mendloop.core.errors import InvalidRecipe
from mendloop.trackers.record import RunRecord

T = TypeVar("T")
POINTS_AT_ONCE, PARAMS_AT_ONCE = 1_000, 100
RUN_TAG = "mendloop.run_id"


def export(record: RunRecord, *, report: str, tracking_uri: str, experiment: str) -> tuple[str, bool]:
    """MLflow's id of the run, and whether it was made now: a run that is there already stays as it is.

    report is the run's page (HTML), logged as report.html. Raises InvalidRecipe where MLflow is not installed, or
    does not take the store.
    """
    try:
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise InvalidRecipe("MLflow is not installed: pip install 'mendloop[mlflow]'") from error
    try:
        client = MlflowClient(tracking_uri=tracking_uri or None)
    except MlflowException as error:
        raise InvalidRecipe(f"--tracking-uri {tracking_uri}: {error.message}") from error
    experiment_id = _experiment(client, experiment)
    known = client.search_runs([experiment_id], f"tags.`{RUN_TAG}` = '{_quoted(record.run_id)}'", max_results=1)
    if known:
        return str(known[0].info.run_id), False
    made = client.create_run(experiment_id, start_time=_ms(record.started_at), run_name=record.run_id)
    made_id = str(made.info.run_id)
    metrics = [Metric(point.name, point.value, _ms(point.at), point.step) for point in record.points]
    for metric_part in _parts(metrics, POINTS_AT_ONCE):
        client.log_batch(made_id, metrics=metric_part)
    for param_part in _parts([Param(name, value) for name, value in record.params.items()], PARAMS_AT_ONCE):
        client.log_batch(made_id, params=param_part)
    client.log_text(made_id, report, "report.html")
    # The tag by which an export is found comes last: one that broke off is made again, whole.
    tags = {"mlflow.note.content": record.summary, **record.tags}
    client.log_batch(made_id, tags=[RunTag(name, value) for name, value in tags.items()])
    client.set_terminated(made_id, "FINISHED", end_time=_ms(record.finished_at))
    return made_id, True


def _experiment(client: Any, name: str) -> str:
    known = client.get_experiment_by_name(name)
    return str(known.experiment_id if known is not None else client.create_experiment(name))


def _quoted(run_id: str) -> str:
    if "'" in run_id:
        raise InvalidRecipe(f"run id {run_id!r} holds a quote, which MLflow's search cannot ask for")
    return run_id


def _parts(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (values[start : start + size] for start in range(0, len(values), size))


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
