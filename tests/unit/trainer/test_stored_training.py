"""The backend over a real artifact store, with a tiny model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from training import job, scan_examples, scan_preferences, tiny_checkpoint

from mendloop.artifacts.store import ArtifactStore
from mendloop.artifacts.tables import put_rows
from mendloop.core.errors import CorruptArtifact, Interrupted, Permanent
from mendloop.core.records import Example, Preference
from mendloop.core.telemetry import Telemetry
from mendloop.core.training import TrainingJob
from mendloop.models.checkpoint import open_checkpoint, save_checkpoint
from mendloop.trainer.adapters.stored_training import StoredTraining
from mendloop.trainer.finished import find_finished, keep_finished
from mendloop.trainer.ports import TrainingFailed


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def work(store: ArtifactStore, tmp_path: Path) -> TrainingJob:
    start = save_checkpoint(store, tiny_checkpoint(tmp_path / "start"))
    return replace(job(), start=start, corpus=put_rows(store, scan_examples(40), kind=Example))


def _backend(store: ArtifactStore, tmp_path: Path, telemetry: Telemetry | None = None) -> StoredTraining:
    return StoredTraining(
        store, work_dir=tmp_path / "work", telemetry=telemetry or Telemetry("trainer"), torch_threads=1
    )


def _stop_after(count: int) -> Callable[[], bool]:
    answers = iter([False] * (count - 1) + [True])
    return lambda: next(answers)


def test_a_job_becomes_a_stored_checkpoint_and_its_tokens_are_counted(
    store: ArtifactStore, work: TrainingJob, tmp_path: Path
) -> None:
    telemetry = Telemetry("trainer")

    trained = _backend(store, tmp_path, telemetry).train(work, is_stopping=lambda: False)

    opened = open_checkpoint(store, trained.checkpoint, cache=tmp_path / "opened")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in opened.iterdir()}
    assert trained.checkpoint != work.start
    counted = telemetry.registry.get_sample_value("mendloop_tokens_total", {"service": "trainer", "use": "train"})
    assert counted == trained.report.token_count > 0


def test_an_interrupted_job_goes_on_in_another_backend_and_gives_the_same_checkpoint(
    store: ArtifactStore, work: TrainingJob, tmp_path: Path
) -> None:
    whole = _backend(store, tmp_path / "other").train(work, is_stopping=lambda: False)

    with pytest.raises(Interrupted):
        _backend(store, tmp_path).train(work, is_stopping=_stop_after(5))
    resumed = _backend(store, tmp_path).train(work, is_stopping=lambda: False)

    assert resumed.checkpoint.sha256 == whole.checkpoint.sha256
    assert resumed.report.loss_curve == whole.report.loss_curve


def test_nothing_is_left_on_disk_of_a_job_that_is_forgotten(
    store: ArtifactStore, work: TrainingJob, tmp_path: Path
) -> None:
    backend = _backend(store, tmp_path)
    with backend.hold(work, is_stopping=lambda: False):
        backend.train(work, is_stopping=lambda: False)

    backend.forget(work)

    assert list((tmp_path / "work" / "training").iterdir()) == []


def test_a_sweep_deletes_what_finished_jobs_left_and_keeps_the_others(
    store: ArtifactStore, work: TrainingJob, tmp_path: Path
) -> None:
    backend, unfinished = _backend(store, tmp_path), replace(work, seed=8)
    with pytest.raises(Interrupted):
        backend.train(unfinished, is_stopping=_stop_after(2))
    finished = keep_finished(store, backend.train(work, is_stopping=lambda: False))

    backend.sweep()

    assert [path.name for path in (tmp_path / "work" / "training").iterdir()] == [unfinished.job_id]
    assert find_finished(store, work) == finished
    assert find_finished(store, unfinished) is None


def test_a_start_whose_bytes_changed_in_the_store_is_refused(
    store: ArtifactStore, work: TrainingJob, tmp_path: Path
) -> None:
    manifest = Path(work.start.uri.removeprefix("file://"))
    manifest.write_bytes(manifest.read_bytes()[:-1])

    with pytest.raises(CorruptArtifact):
        _backend(store, tmp_path).train(work, is_stopping=lambda: False)


def _value(telemetry: Telemetry, name: str, **labels: str) -> float | None:
    return telemetry.registry.get_sample_value(name, {"service": "trainer", **labels})


def test_curves_pace_and_share_of_the_peak_are_gauges(store: ArtifactStore, work: TrainingJob, tmp_path: Path) -> None:
    telemetry = Telemetry("trainer")
    settings = work.settings.model_copy(update={"held_out_share": 0.25, "held_out_every": 4})
    backend = StoredTraining(store, work_dir=tmp_path / "work", telemetry=telemetry, torch_threads=1, peak_flops=1e9)

    report = backend.train(replace(work, settings=settings), is_stopping=lambda: False).report

    assert _value(telemetry, "mendloop_training_step") == 12
    assert _value(telemetry, "mendloop_training_loss", part="train") == report.loss_curve[-1][1]
    assert _value(telemetry, "mendloop_training_loss", part="held_out") == report.held_out_curve[1][1]
    assert _value(telemetry, "mendloop_training_tokens_per_second") == pytest.approx(report.tokens_per_s, rel=0.5)
    assert report.mfu is not None
    assert report.mfu == pytest.approx(report.flops / report.token_count * report.tokens_per_s / 1e9)
    assert _value(telemetry, "mendloop_training_mfu") == report.mfu


def test_a_diverged_training_is_counted_by_cause(store: ArtifactStore, work: TrainingJob, tmp_path: Path) -> None:
    telemetry = Telemetry("trainer")
    settings = work.settings.model_copy(update={"learning_rate": 1e4, "steps": 60, "warmup_steps": 0})

    with pytest.raises(TrainingFailed) as caught:
        _backend(store, tmp_path, telemetry).train(replace(work, settings=settings), is_stopping=lambda: False)

    assert _value(telemetry, "mendloop_trainings_failed_total", cause=caught.value.failure.cause) == 1


@pytest.mark.parametrize(("objective", "kind"), [("sft", Preference), ("dpo", Example)])
def test_rows_that_the_objective_does_not_learn_from_are_refused(
    store: ArtifactStore, work: TrainingJob, tmp_path: Path, objective: str, kind: type[Example] | type[Preference]
) -> None:
    batch = (
        put_rows(store, scan_preferences(4), kind=Preference)
        if kind is Preference
        else put_rows(store, scan_examples(4), kind=Example)
    )
    settings = work.settings.model_copy(update={"objective": objective})

    with pytest.raises(CorruptArtifact, match=f"the objective is {objective}: preferences need dpo"):
        _backend(store, tmp_path).train(replace(work, batch=batch, settings=settings), is_stopping=lambda: False)


def test_preferences_without_a_batch_are_refused(store: ArtifactStore, work: TrainingJob, tmp_path: Path) -> None:
    settings = work.settings.model_copy(update={"objective": "dpo"})

    with pytest.raises(Permanent, match="the job has no batch of them"):
        _backend(store, tmp_path).train(replace(work, settings=settings), is_stopping=lambda: False)
