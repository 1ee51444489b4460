"""One EvalFailed gives exactly one DiagnosisReady with its evidence, lineage and metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import event, recipe, run_spec
from diagnosis_cases import GREEN, TEMPLATE, ToyModel, ToyTask, all_items, all_probes, corpus_of, outcomes_of, wrong_on
from google.protobuf.message import Message
from numpy.typing import NDArray

from mendloop.artifacts.lineage import find
from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.artifacts.tables import get_rows, put_rows
from mendloop.axes.hierarchy import Cut, Hierarchy
from mendloop.axes.placing import Places
from mendloop.bus.runtime import Emit
from mendloop.core import run_spec as specification
from mendloop.core.errors import CorruptArtifact, Interrupted, Permanent
from mendloop.core.recipe import TrainSettings
from mendloop.core.records import Outcome
from mendloop.core.telemetry import Telemetry
from mendloop.core.training import HealthCheck, TrainingJob, TrainingReport
from mendloop.core.wire import artifact_of, artifact_ref, slice_message
from mendloop.diagnostician.adapters.checkpoints import StoredCheckpoints
from mendloop.diagnostician.handlers import Ports, handlers, on_eval_failed
from mendloop.models.checkpoint import save_checkpoint
from mendloop.models.generation import LanguageModel
from mendloop.v1 import checkpoint_pb2, common_pb2, diagnosis_pb2, evaluation_pb2

Load = Callable[[Path], LanguageModel]


@pytest.fixture(autouse=True)
def _toy_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(specification, "find_task", lambda name, options: ToyTask(options))


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def _ports(store: ArtifactStore, tmp_path: Path, load: Load) -> Ports:
    checkpoints = StoredCheckpoints(store, cache=tmp_path / "cache", load=load)
    return Ports(
        store=store,
        checkpoints=checkpoints,
        probes=all_probes(),
        telemetry=Telemetry("diagnostician"),
        clock=iter(range(10_000)).__next__,
    )


def _checkpoint(store: ArtifactStore, tmp_path: Path) -> Artifact:
    directory = tmp_path / "model"
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(b"weights")
    return save_checkpoint(store, directory)


def _failure(
    store: ArtifactStore, tmp_path: Path, model: ToyModel, *, missing_green: bool = True, with_report: bool = False
) -> evaluation_pb2.EvalFailed:
    items = all_items()
    corpus = corpus_of(per_colour={"green": 0}) if missing_green else corpus_of()
    spec = run_spec(
        store,
        recipe=recipe(template=TEMPLATE, suite={"axes": ["colour"], "max_new_tokens": 8}),
        items=items,
        corpus=[replace(row, axes={}) for row in corpus],
    )
    checkpoint = _checkpoint(store, tmp_path)
    outcomes = put_rows(store, outcomes_of(model, ToyTask(), items, max_new_tokens=8), kind=Outcome)
    report = _report(store, checkpoint, spec.corpus) if with_report else None
    return evaluation_pb2.EvalFailed(
        position=common_pb2.RunPosition(run_id="run-1", round=0),
        evaluation_id="e" * 32,
        slice=slice_message(GREEN),
        outcomes=artifact_ref(outcomes),
        weak_slice_count=3,
        checkpoint_ready=checkpoint_pb2.CheckpointReady(
            checkpoint=artifact_ref(checkpoint),
            run_spec=artifact_ref(spec.store(store)),
            training_report=artifact_ref(report),
        ),
    )


def _report(store: ArtifactStore, checkpoint: Artifact, corpus: Artifact) -> Artifact:
    job = TrainingJob(checkpoint, corpus, None, 0.0, TrainSettings(), TEMPLATE, 0, 0)
    checks = (HealthCheck("eos_in_loss", False, 0.0, "0 of 280"), HealthCheck("label_mask", True, 1.0, "all"))
    return TrainingReport(job, checks, ((1, 2.0), (2, 0.1)), 2, 100, 1.0, 1.0, "").store(store)


def _only(emitted: list[Emit]) -> diagnosis_pb2.DiagnosisReady:
    assert len(emitted) == 1
    assert isinstance(emitted[0].message, diagnosis_pb2.DiagnosisReady)
    return emitted[0].message


def test_missing_data_is_diagnosed_with_its_evidence(store: ArtifactStore, tmp_path: Path) -> None:
    model = ToyModel(answers=wrong_on("green"))
    failure = _failure(store, tmp_path, model)
    ports = _ports(store, tmp_path, lambda path: model)
    emitted = on_eval_failed(event(failure), ports=ports)
    ready = _only(emitted)
    assert (emitted[0].key, emitted[0].subject) == ("run-1", "run-1")
    assert (ready.cause, ready.family) == (diagnosis_pb2.CAUSE_DATA_MISSING, diagnosis_pb2.CAUSE_FAMILY_DATA)
    assert (ready.position, ready.slice, ready.evaluation_id) == (failure.position, failure.slice, "e" * 32)
    assert (ready.failed_count, ready.weak_slice_count) == (40, 3)
    assert ready.interventions[0].kind == diagnosis_pb2.INTERVENTION_KIND_DATA
    assert ready.summary.startswith("colour=green: DATA_MISSING (explains at least ")
    named = {row.measurement for row in ready.evidence}
    assert {"unseen_bigram_failed[a]", "unseen_bigram_failed[b]", "distinct_prompts", "eos_nats"} <= named
    assert all(row.reading for row in ready.evidence)
    assert {score.cause for score in ready.scores} >= {diagnosis_pb2.CAUSE_EOS_MASKED, diagnosis_pb2.CAUSE_DATA_SKEW}


def test_lineage_and_metrics_follow_the_verdict(store: ArtifactStore, tmp_path: Path) -> None:
    model = ToyModel(answers=wrong_on("green"))
    failure = _failure(store, tmp_path, model)
    ports = _ports(store, tmp_path, lambda path: model)
    ready = _only(on_eval_failed(event(failure), ports=ports))
    node = find(store, f"diagnosis:{'e' * 32}/{failure.slice.slice_id}")
    assert node is not None
    assert node.inputs == (f"failure:{'e' * 32}/{failure.slice.slice_id}",)
    assert node.facts == {"cause": "DATA_MISSING", "confidence": ready.confidence}
    registry, labels = ports.telemetry.registry, {"service": "diagnostician"}
    assert registry.get_sample_value("mendloop_verdicts_total", {**labels, "cause": "DATA_MISSING"}) == 1
    tokens = registry.get_sample_value("mendloop_tokens_total", {**labels, "use": "probe"})
    assert tokens == ready.metering.token_count == sum(row.metering.token_count for row in ready.evidence) > 0
    assert ready.metering.gpu_s == 0


def test_masked_eos_reaches_the_message_as_a_training_fix(store: ArtifactStore, tmp_path: Path) -> None:
    model = ToyModel(never_stops=lambda prompt: True, eos_nats=12.0)
    failure = _failure(store, tmp_path, model, missing_green=False, with_report=True)
    ready = _only(on_eval_failed(event(failure), ports=_ports(store, tmp_path, lambda path: model)))
    assert (ready.cause, ready.family) == (diagnosis_pb2.CAUSE_EOS_MASKED, diagnosis_pb2.CAUSE_FAMILY_TRAINING)
    [intervention] = ready.interventions
    assert intervention.kind == diagnosis_pb2.INTERVENTION_KIND_TRAINING_FIX
    assert [(fix.setting, fix.value_json) for fix in intervention.fixes] == [("train.eos_in_loss", "true")]
    audit = next(row for row in ready.evidence if (row.probe, row.measurement) == ("label_audit", "eos_in_loss"))
    assert (audit.value, audit.n) == (0, 280)


def test_abstaining_is_an_answer_too(store: ArtifactStore, tmp_path: Path) -> None:
    model = ToyModel(answers=wrong_on("green"))
    failure = _failure(store, tmp_path, model, missing_green=False)
    ready = _only(on_eval_failed(event(failure), ports=_ports(store, tmp_path, lambda path: model)))
    assert (ready.cause, ready.confidence) == (diagnosis_pb2.CAUSE_UNKNOWN, 0)
    assert ready.family == diagnosis_pb2.CAUSE_FAMILY_OTHER
    assert ready.interventions[0].kind == diagnosis_pb2.INTERVENTION_KIND_NONE
    assert "no cause explains most failures" in ready.summary


def test_the_same_event_gives_the_same_message_and_loads_the_model_once(store: ArtifactStore, tmp_path: Path) -> None:
    model, loads = ToyModel(answers=wrong_on("green")), []
    failure = _failure(store, tmp_path, model)

    def load(path: Path) -> LanguageModel:
        loads.append(path)
        return model

    ports = _ports(store, tmp_path, load)
    first, second = (_only(on_eval_failed(event(failure), ports=ports)) for _ in range(2))
    for message in (first, second):
        message.ClearField("metering")
        for row in message.evidence:
            row.ClearField("metering")
    assert first == second
    assert len(loads) == 1


def test_a_checkpoint_that_does_not_load_is_a_dead_letter(store: ArtifactStore, tmp_path: Path) -> None:
    def load(path: Path) -> LanguageModel:
        raise Permanent("configuration and weights disagree")

    failure = _failure(store, tmp_path, ToyModel(answers=wrong_on("green")))
    with pytest.raises(CorruptArtifact, match="does not load: configuration"):
        on_eval_failed(event(failure), ports=_ports(store, tmp_path, load))


def test_changed_outcomes_are_refused_by_their_hash(store: ArtifactStore, tmp_path: Path) -> None:
    failure = _failure(store, tmp_path, ToyModel(answers=wrong_on("green")))
    Path(failure.outcomes.uri.removeprefix("file://")).write_bytes(b"cut")
    with pytest.raises(CorruptArtifact):
        on_eval_failed(event(failure), ports=_ports(store, tmp_path, lambda path: ToyModel()))


def test_a_stopping_service_gives_the_work_back(store: ArtifactStore, tmp_path: Path) -> None:
    failure = _failure(store, tmp_path, ToyModel(answers=wrong_on("green")))
    with pytest.raises(Interrupted, match="colour=green"):
        on_eval_failed(event(failure, is_stopping=True), ports=_ports(store, tmp_path, lambda path: ToyModel()))


def test_the_service_consumes_failures_only(store: ArtifactStore, tmp_path: Path) -> None:
    bound: dict[type[Message], object] = dict(handlers(_ports(store, tmp_path, lambda path: ToyModel())))
    assert list(bound) == [evaluation_pb2.EvalFailed]


def test_a_slice_of_a_node_is_looked_for_in_the_corpus_by_the_runs_hierarchy(
    store: ArtifactStore, tmp_path: Path
) -> None:
    class ByColour:
        def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
            return np.array([[1.0 if "green" in text else -1.0] for text in texts], dtype=np.float32)

    model = ToyModel(answers=wrong_on("green"))
    failure = _failure(store, tmp_path, model)
    failure.slice.CopyFrom(slice_message([("cluster", "1 green")]))
    rows = get_rows(store, artifact_of(failure.outcomes), kind=Outcome)
    nodes = [replace(row, axes={"cluster": ("1 green" if "green" in row.prompt else "0 other",)}) for row in rows]
    failure.outcomes.CopyFrom(artifact_ref(put_rows(store, nodes, kind=Outcome)))
    hierarchy = Hierarchy((Cut("", np.array([1.0]), 0.0),), {"0": "0 other", "1": "1 green"}, "by-colour")
    ports = replace(_ports(store, tmp_path, lambda path: model), places=lambda spec: Places(hierarchy, ByColour()))

    placed = _only(on_eval_failed(event(failure), ports=ports))
    unplaced = _only(on_eval_failed(event(failure), ports=_ports(store, tmp_path, lambda path: model)))

    (found,) = [row for row in placed.evidence if row.measurement == "distinct_prompts"]
    assert (found.value, found.n > 0) == (0, True)
    assert placed.cause == diagnosis_pb2.CAUSE_DATA_MISSING
    (abstained,) = [row for row in unplaced.evidence if row.measurement == "distinct_prompts"]
    assert abstained.n == 0
    assert "needs the stored hierarchy" in abstained.reading
