"""A finished run in MLflow's own store and in Weights & Biases' own files, read back with their own code."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateways import recipe_document
from run_events import data_run, position, sent
from waiting import wait_until

from mendloop.artifacts.store import ArtifactStore
from mendloop.bus.local import LocalBus
from mendloop.core.contracts import all_topics
from mendloop.core.errors import Permanent
from mendloop.core.recipe import Recipe
from mendloop.core.wire import artifact_ref
from mendloop.runs.log import RunLog
from mendloop.runs.model import RunView
from mendloop.trackers import mlflow, wandb
from mendloop.trackers.record import RunRecord, plain_name, record_of
from mendloop.v1 import loop_pb2

REPORT = "<!doctype html><title>Run r1</title>"


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def _view(folder: Path, store: ArtifactStore, *, events: int | None = None) -> RunView:
    recipe = Recipe.model_validate(recipe_document()).model_dump(mode="json")
    spec = store.put(json.dumps({"recipe": recipe}).encode(), media_type="application/json")
    asked = loop_pb2.LoopRequested(position=position("r1"), run_spec=artifact_ref(spec), requested_by="ada")
    bus = LocalBus(folder / "bus.db")
    bus.ensure_topics(all_topics())
    bus.publish([sent(asked, event_id="r1/0"), *data_run("r1")[1:events]])
    log = RunLog(bus, store=store)
    log.refresh()
    view = log.view("r1")
    assert view is not None
    return view


@pytest.fixture
def record(tmp_path: Path, store: ArtifactStore) -> RunRecord:
    return record_of(_view(tmp_path, store), store=store)


def test_record_has_each_round_with_its_uncertainty(record: RunRecord) -> None:
    points = {(point.name, point.step): point.value for point in record.points}
    assert points["accuracy", 0] == 0.5
    assert points["accuracy", 0] > points["accuracy_low", 0]
    assert (points["accuracy_n", 1], points["accuracy", 1]) == (60, pytest.approx(55 / 60))
    assert (points["slice/verb:jump", 1], points["promoted", 1]) == (pytest.approx(25 / 30), 1)
    assert ("promoted", 0) not in points
    assert (record.params["task"], record.params["suite.search"]) == ("counting", "40")
    assert record.tags["mendloop.causes"] == "DATA_MISSING"
    assert record.left_out == {}


def test_run_that_goes_on_is_refused(tmp_path: Path, store: ArtifactStore) -> None:
    with pytest.raises(Permanent, match="not over"):
        record_of(_view(tmp_path, store, events=5), store=store)


def test_name_that_trackers_refuse_is_made_plain() -> None:
    assert plain_name("verb=jump ∧ größe") == "verb_jump _ gr__e"


def test_mlflow_has_the_run_and_an_export_again_changes_nothing(record: RunRecord, tmp_path: Path) -> None:
    tracking = pytest.importorskip("mlflow.tracking", reason="mlflow is not installed (extra mlflow)")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    place = {"report": REPORT, "tracking_uri": uri, "experiment": f"loop-{tmp_path.name}"}
    client = tracking.MlflowClient(tracking_uri=uri)
    client.create_experiment(place["experiment"], artifact_location=(tmp_path / "mlartifacts").as_uri())
    made, is_new = mlflow.export(record, **place)
    assert is_new
    assert mlflow.export(record, **place) == (made, False)
    run = client.get_run(made)
    assert (run.info.status, run.info.run_name, run.data.params["task"]) == ("FINISHED", "r1", "counting")
    assert run.info.end_time - run.info.start_time == 18_000
    assert [(m.step, m.value) for m in client.get_metric_history(made, "accuracy")] == [
        (0, 0.5),
        (1, pytest.approx(55 / 60)),
    ]
    assert run.data.tags["mendloop.outcome"] == "promoted"
    assert (tmp_path / "mlartifacts" / made / "artifacts" / "report.html").read_text() == REPORT


def _log_records(data: bytes) -> Iterator[bytes]:
    """The records of a .wandb file: LevelDB's log format (blocks of 32 KiB; crc, length, type) behind 7 bytes."""
    at, whole = 7, b""
    while at + 7 <= len(data):
        left = 32_768 - at % 32_768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield whole
            whole = b""


def test_wandb_writes_the_run_offline(record: RunRecord, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed (extra wandb)")
    from wandb.proto.wandb_internal_pb2 import Record

    folder = Path(wandb.export(record, report=REPORT, project="loop", folder=tmp_path, is_offline=True))
    [path] = folder.glob("*.wandb")
    rows: dict[int, dict[str, Any]] = {}
    config: dict[str, Any] = {}

    def is_written() -> bool:  # by a process of wandb's own, which may still be at it
        for raw in _log_records(path.read_bytes()):
            entry = Record.FromString(raw)
            if entry.HasField("history"):
                values = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in entry.history.item}
                rows[values["_step"]] = values
            if entry.HasField("run"):
                config.update({i.key: json.loads(i.value_json) for i in entry.run.config.update})
        return {0, 1} <= rows.keys() and bool(config)

    wait_until(is_written)
    assert [rows[step]["accuracy"] for step in (0, 1)] == [0.5, pytest.approx(55 / 60)]
    assert config["task"] == "counting"
