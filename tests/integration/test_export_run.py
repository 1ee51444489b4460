"""`mend export-run` as a person types it: a finished run of a deployment's folder into MLflow's and W&B's own files."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from gateways import CountingTask, model_directory, recipe_document
from run_events import data_run

from mendloop.cli.app import main
from mendloop.cli.deployment import deployment_at
from mendloop.core.contracts import all_topics
from mendloop.core.recipe import Recipe
from mendloop.submission import submit as submission


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deployment with the finished run r1 and the run r2, which goes on; both were really submitted."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MENDLOOP_BUS", "MENDLOOP_ARTIFACTS_URI", "MENDLOOP_SEALED_ARTIFACTS_URI"):
            patch.delenv(name, raising=False)
        patch.setattr(submission, "find_task", lambda name, options: CountingTask())
        model_directory(folder)
        deployment = deployment_at(folder)
        bus = deployment.bus()
        bus.ensure_topics(all_topics())
        for run_id in ("r1", "r2"):
            submission.submit(
                Recipe.model_validate(recipe_document()),
                bus=bus,
                store=deployment.store(),
                sealed_store=deployment.sealed_store(),
                base_dir=folder,
                run_id=run_id,
                requested_by="ada",
            )
        bus.publish(data_run("r1")[1:])
        bus.close()
    return folder


def _mend(monkeypatch: pytest.MonkeyPatch, home: Path, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["mend", "--home", str(home), "export-run", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_run_goes_to_mlflow_once(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tracking = pytest.importorskip("mlflow.tracking", reason="mlflow is not installed (extra mlflow)")
    monkeypatch.chdir(tmp_path)  # MLflow puts artifacts of a database store below the working directory
    uri = "sqlite:///mlflow.db"
    assert _mend(monkeypatch, home, "r1", "--to", "mlflow", "--tracking-uri", uri, "--project", "loop") == 0
    said = capsys.readouterr().out
    assert "run r1 is MLflow's run" in said
    client = tracking.MlflowClient(tracking_uri=uri)
    [run] = client.search_runs([client.get_experiment_by_name("loop").experiment_id])
    assert run.info.run_id in said
    assert (run.data.params["task"], run.data.tags["mendloop.requested_by"]) == ("counting", "ada")
    assert [point.value for point in client.get_metric_history(run.info.run_id, "accuracy")] == [
        0.5,
        pytest.approx(55 / 60),
    ]
    page = Path(client.download_artifacts(run.info.run_id, "report.html", str(tmp_path))).read_text()
    assert "Run r1" in page
    assert "verb=jump" in page
    assert _mend(monkeypatch, home, "r1", "--to", "mlflow", "--tracking-uri", uri, "--project", "loop") == 0
    assert "nothing was sent" in capsys.readouterr().out


def test_a_store_that_mlflow_does_not_take_is_refused_in_words(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mlflow.tracking", reason="mlflow is not installed (extra mlflow)")
    assert _mend(monkeypatch, home, "r1", "--to", "mlflow", "--tracking-uri", "carrier-pigeon://x") == 1
    assert "--tracking-uri carrier-pigeon://x:" in capsys.readouterr().err


def test_run_is_written_for_wandb_without_a_network(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed (extra wandb)")
    assert _mend(monkeypatch, home, "r1", "--to", "wandb", "--offline", "--folder", str(tmp_path / "runs")) == 0
    said = re.search(r"was written to (\S+); `wandb sync`", capsys.readouterr().out)
    assert said is not None
    folder = Path(said[1])
    assert folder.is_relative_to(tmp_path)
    assert [path.name for path in folder.glob("*.wandb")] == ["run-r1.wandb"]


def test_run_that_goes_on_or_is_unknown_is_refused_in_words(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _mend(monkeypatch, home, "r2", "--to", "mlflow") == 1
    assert "run r2 is not over" in capsys.readouterr().err
    assert _mend(monkeypatch, home, "r9", "--to", "wandb") == 1
    assert "there is no run 'r9'" in capsys.readouterr().err
