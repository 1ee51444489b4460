"""Handlers of the trainer, with a backend that counts its trainings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from builders import event, recipe, run_spec
from google.protobuf.message import Message

from mendloop.artifacts.lineage import Node, find, record
from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.bus.endings import note_ended
from mendloop.core.errors import Interrupted, Permanent
from mendloop.core.recipe import TrainSettings
from mendloop.core.training import TrainingFailure, TrainingJob, TrainingReport
from mendloop.core.wire import artifact_of, artifact_ref
from mendloop.trainer.handlers import Ports, handlers
from mendloop.trainer.ports import Trained, TrainingFailed
from mendloop.v1 import checkpoint_pb2, common_pb2, diagnosis_pb2, intervention_pb2, loop_pb2

BINARY = "application/octet-stream"
OLD = {"steps": 5, "eos_in_loss": False, "on_unhealthy": "warn"}


@dataclass
class FakeTraining:
    """Stores a checkpoint named after the job, and remembers what it was asked."""

    store: ArtifactStore
    trained: list[TrainingJob] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    on_hold: Callable[[TrainingJob], None] = lambda job: None
    error: Exception | None = None
    failure: Callable[[TrainingJob], TrainingFailure] | None = None
    limits: list[float | None] = field(default_factory=list)

    @contextmanager
    def hold(self, job: TrainingJob, *, is_stopping: Callable[[], bool]) -> Iterator[None]:
        self.on_hold(job)
        yield

    def train(self, job: TrainingJob, *, is_stopping: Callable[[], bool], gpu_s_limit: float | None = None) -> Trained:
        if self.error:
            raise self.error
        self.trained.append(job)
        self.limits.append(gpu_s_limit)
        if self.failure:
            raise TrainingFailed(self.failure(job))
        checkpoint = self.store.put(f"checkpoint of {job.job_id}".encode(), media_type=BINARY)
        return Trained(checkpoint, _report(job), gpu_s=1.5)

    def forget(self, job: TrainingJob) -> None:
        self.forgotten.append(job.job_id)


def _report(job: TrainingJob) -> TrainingReport:
    return TrainingReport(
        job=job,
        health=(),
        loss_curve=((job.settings.steps, 0.25),),
        step_count=job.settings.steps,
        token_count=700,
        wall_s=2.5,
        flops=4200.0,
        stopped_early="",
    )


@dataclass
class World:
    """A store with a run specification, and the service over it."""

    store: ArtifactStore
    backend: FakeTraining
    base: Artifact
    spec_ref: common_pb2.ArtifactRef
    corpus: Artifact

    def handle(self, message: Message, *, event_id: str = "e1") -> list[checkpoint_pb2.CheckpointReady]:
        emits = list(handlers(Ports(self.store, self.backend))[type(message)](event(message, event_id=event_id)))
        assert all(emit.key == emit.subject == "r1" for emit in emits)
        return [emit.message for emit in emits if isinstance(emit.message, checkpoint_pb2.CheckpointReady)]

    def failed(self, message: Message, *, event_id: str = "e1") -> checkpoint_pb2.TrainingFailed:
        (emit,) = handlers(Ports(self.store, self.backend))[type(message)](event(message, event_id=event_id))
        assert emit.key == emit.subject == "r1"
        assert isinstance(emit.message, checkpoint_pb2.TrainingFailed)
        return emit.message


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def _world(store: ArtifactStore, *, base: Mapping[str, Any] | None = None, **changes: Any) -> World:
    start = store.put(b"base", media_type=BINARY)
    parts = {"base": {"model": "package:scan/base", **(base or {})}, "fix": {"steps": 7}, "seed": 3, **changes}
    spec = run_spec(store, base=start, recipe=recipe(**parts))
    return World(store, FakeTraining(store), start, artifact_ref(spec.store(store)), spec.corpus)


def _request(world: World, *, run_id: str = "r1") -> loop_pb2.LoopRequested:
    return loop_pb2.LoopRequested(position=common_pb2.RunPosition(run_id=run_id), run_spec=world.spec_ref)


def _plan(world: World, **fields: Any) -> intervention_pb2.InterventionPlanned:
    defaults: dict[str, Any] = {
        "position": common_pb2.RunPosition(run_id="r1", round=2),
        "plan_id": "p1",
        "kind": diagnosis_pb2.INTERVENTION_KIND_DATA,
        "checkpoint": artifact_ref(world.base),
        "run_spec": world.spec_ref,
        "train_token_limit": 5000,
        "replay_share": 0.7,
        "diagnosis_wanted": True,
    }
    return intervention_pb2.InterventionPlanned(**{**defaults, **fields})


def _batch(world: World, *, example_count: int = 4) -> intervention_pb2.DataBatchReady:
    batch = artifact_ref(world.store.put(b"rows", media_type=BINARY)) if example_count else None
    return intervention_pb2.DataBatchReady(
        position=common_pb2.RunPosition(run_id="r1", round=2),
        batch=batch,
        example_count=example_count,
        plan=_plan(world),
    )


def _failed_job(world: World) -> TrainingJob:
    return TrainingJob(world.base, world.corpus, None, 0.0, TrainSettings(**OLD), "IN: {prompt} OUT:", 3, 0)


def _fix(
    world: World, *, setting: str = "train.eos_in_loss", value: str = "true"
) -> intervention_pb2.InterventionPlanned:
    return _plan(
        world,
        kind=diagnosis_pb2.INTERVENTION_KIND_TRAINING_FIX,
        fixes=[diagnosis_pb2.SettingFix(setting=setting, value_json=value)],
        training_report=artifact_ref(_report(_failed_job(world)).store(world.store)),
    )


def test_a_base_that_needs_no_training_is_ready_at_once(store: ArtifactStore) -> None:
    world = _world(store)

    (ready,) = world.handle(_request(world))

    assert artifact_of(ready.checkpoint) == world.base
    assert (ready.kind, ready.position.round) == (checkpoint_pb2.CHECKPOINT_KIND_BASE, 0)
    assert ready.diagnosis_wanted
    assert not ready.training_report.sha256
    assert not ready.baseline.sha256
    assert world.backend.trained == []
    node = find(store, f"checkpoint:{world.base.sha256}")
    assert node is not None
    assert node.inputs == ()


def test_a_base_is_trained_on_the_corpus_where_the_recipe_says_so(store: ArtifactStore) -> None:
    world = _world(store, base={"train": OLD})

    (ready,) = world.handle(_request(world))

    (job,) = world.backend.trained
    assert job == _failed_job(world)
    report = TrainingReport.load(store, artifact_of(ready.training_report))
    assert report.job == job
    assert (ready.metering.wall_s, ready.metering.gpu_s) == (2.5, 1.5)
    assert (ready.metering.token_count, ready.metering.flops) == (700, 4200.0)
    node = find(store, f"checkpoint:{ready.checkpoint.sha256}")
    assert node is not None
    assert node.inputs == (f"checkpoint:{world.base.sha256}",)


def test_new_data_is_trained_with_replay_from_the_plans_checkpoint(store: ArtifactStore) -> None:
    world = _world(store)

    (ready,) = world.handle(_batch(world))

    (job,) = world.backend.trained
    assert (job.start, job.corpus, job.replay_share) == (world.base, world.corpus, 0.7)
    assert (job.seed, job.token_limit, job.settings.steps) == (5, 5000, 7)
    assert ready.kind == checkpoint_pb2.CHECKPOINT_KIND_CANDIDATE
    assert artifact_of(ready.baseline) == world.base
    assert (ready.plan_id, ready.position.round, ready.diagnosis_wanted) == ("p1", 2, True)
    assert ready.run_spec == world.spec_ref
    node = find(store, f"checkpoint:{ready.checkpoint.sha256}")
    assert node is not None
    assert job.batch is not None
    assert node.inputs == ("plan:p1", f"batch:{job.batch.sha256}", f"checkpoint:{world.base.sha256}")


def test_a_corpus_that_came_with_the_data_is_replayed_instead_of_the_runs(store: ArtifactStore) -> None:
    world = _world(store)
    batch = _batch(world)
    cleaned = store.put(b"cleaned rows", media_type=BINARY)
    batch.corpus.CopyFrom(artifact_ref(cleaned))

    world.handle(batch)

    (job,) = world.backend.trained
    assert job.corpus == cleaned


def test_a_repaired_corpus_is_trained_on_where_no_example_is_new(store: ArtifactStore) -> None:
    world = _world(store)
    batch = _batch(world, example_count=0)
    cleaned = store.put(b"cleaned rows", media_type=BINARY)
    batch.corpus.CopyFrom(artifact_ref(cleaned))

    (ready,) = world.handle(batch)

    (job,) = world.backend.trained
    assert (job.corpus, job.batch, job.replay_share, job.token_limit) == (cleaned, None, 0.0, 5000)
    assert (ready.kind, ready.plan_id) == (checkpoint_pb2.CHECKPOINT_KIND_CANDIDATE, "p1")


def test_preferences_are_not_learnt_from_a_repaired_corpus_alone(store: ArtifactStore) -> None:
    world = _world(store, fix={"steps": 7, "objective": "dpo"})
    batch = _batch(world, example_count=0)
    batch.corpus.CopyFrom(artifact_ref(store.put(b"cleaned rows", media_type=BINARY)))

    assert world.handle(batch) == []
    assert world.backend.trained == []


def test_a_training_may_take_what_the_data_left_of_the_plans_gpu_seconds(store: ArtifactStore) -> None:
    world = _world(store)
    batch = _batch(world)
    batch.plan.gpu_s_limit, batch.metering.gpu_s = 10.0, 2.5

    world.handle(batch)

    assert world.backend.limits == [7.5]


def test_a_base_may_take_what_the_run_may(store: ArtifactStore) -> None:
    world = _world(store, base={"train": {"steps": 5}}, budget={"gpu_s": 40.0})

    world.handle(_request(world))

    assert world.backend.limits == [40.0]


def test_an_empty_batch_trains_nothing(store: ArtifactStore) -> None:
    world = _world(store)

    assert world.handle(_batch(world, example_count=0)) == []
    assert world.backend.trained == []


@pytest.mark.parametrize("kind", [diagnosis_pb2.INTERVENTION_KIND_DATA, diagnosis_pb2.INTERVENTION_KIND_EVALUATION_FIX])
def test_other_services_plans_are_left_alone(store: ArtifactStore, kind: diagnosis_pb2.InterventionKind) -> None:
    world = _world(store)

    assert world.handle(_plan(world, kind=kind)) == []
    assert world.backend.trained == []


def test_a_training_fix_repeats_the_job_with_only_the_setting_repaired(store: ArtifactStore) -> None:
    world = _world(store)

    (ready,) = world.handle(_fix(world))

    (job,) = world.backend.trained
    failed = _failed_job(world)
    settings = failed.settings.model_copy(update={"eos_in_loss": True})
    assert job == replace(failed, settings=settings, token_limit=5000)
    assert ready.kind == checkpoint_pb2.CHECKPOINT_KIND_CANDIDATE
    node = find(store, f"checkpoint:{ready.checkpoint.sha256}")
    assert node is not None
    assert node.inputs == ("plan:p1", f"checkpoint:{world.base.sha256}")


def test_a_fix_that_changes_nothing_is_refused(store: ArtifactStore) -> None:
    world = _world(store)

    with pytest.raises(Permanent, match=r"p1 changes no training setting \(train.eos_in_loss=false\)"):
        world.handle(_fix(world, value="false"))


def test_a_fix_without_a_training_before_is_refused(store: ArtifactStore) -> None:
    world = _world(store)

    with pytest.raises(Permanent, match="names no training report"):
        world.handle(_plan(world, kind=diagnosis_pb2.INTERVENTION_KIND_TRAINING_FIX))


def test_the_same_job_asked_for_twice_is_trained_once(store: ArtifactStore) -> None:
    world = _world(store)

    first = world.handle(_batch(world), event_id="e1")
    second = world.handle(_batch(world), event_id="e2")

    assert first == second
    assert len(world.backend.trained) == 1
    assert store.doc_names("jobs") == [world.backend.trained[0].job_id]


def test_a_job_that_another_process_finishes_while_we_wait_is_not_trained_again(store: ArtifactStore) -> None:
    world = _world(store)
    other = FakeTraining(store)
    elsewhere = replace(world, backend=other)

    def finish_elsewhere(job: TrainingJob) -> None:
        elsewhere.handle(_batch(world))

    world.backend.on_hold = finish_elsewhere

    (ready,) = world.handle(_batch(world))

    assert world.backend.trained == []
    assert len(other.trained) == 1
    assert ready.training_report.sha256


def test_resume_points_are_forgotten_once_the_result_is_kept(store: ArtifactStore) -> None:
    world = _world(store)

    world.handle(_batch(world))

    assert world.backend.forgotten == [world.backend.trained[0].job_id]


def _failure(job: TrainingJob) -> TrainingFailure:
    return TrainingFailure(
        job=job,
        health=(),
        cause="not_finite",
        reason="the loss became nan at step 3; last losses 2, 1, nan; lower learning_rate",
        step=3,
        loss_curve=((1, 2.0), (2, 1.0)),
        last_losses=(2.0, 1.0, math.nan),
        gradient_norms=((1, 4.0), (2, math.inf)),
        token_count=90,
        wall_s=1.25,
        gpu_s=0.5,
        flops=8.0,
    )


def test_a_training_that_diverges_is_an_event_with_cause_evidence_and_cost(store: ArtifactStore) -> None:
    world = _world(store)
    world.backend.failure = _failure

    failed = world.failed(_batch(world))

    assert (failed.kind, failed.plan_id) == (checkpoint_pb2.CHECKPOINT_KIND_CANDIDATE, "p1")
    assert failed.cause == checkpoint_pb2.TRAINING_FAILURE_CAUSE_NOT_FINITE
    assert (failed.step, failed.gradient_norm) == (3, math.inf)
    assert math.isnan(failed.loss)
    assert "the loss became nan at step 3" in failed.reason
    assert (failed.metering.wall_s, failed.metering.gpu_s, failed.metering.token_count) == (1.25, 0.5, 90)
    evidence = TrainingFailure.load(store, artifact_of(failed.evidence))
    assert evidence.loss_curve == ((1, 2.0), (2, 1.0))
    assert evidence.job.settings.steps == 7


def test_a_training_that_its_limit_ended_says_which_and_is_tried_again_with_more(store: ArtifactStore) -> None:
    world = _world(store)
    world.backend.failure = lambda job: replace(_failure(job), cause="budget", gpu_s=4.75, gpu_s_limit=4.5)
    batch = _batch(world)
    batch.plan.gpu_s_limit = 4.5

    first, second = world.failed(batch, event_id="e1"), world.failed(batch, event_id="e2")
    batch.plan.gpu_s_limit = 9.0
    world.failed(batch, event_id="e3")

    assert first == second
    assert first.cause == checkpoint_pb2.TRAINING_FAILURE_CAUSE_BUDGET
    assert (first.gpu_s_limit, first.metering.gpu_s) == (4.5, 4.75)
    assert world.backend.limits == [4.5, 9.0]


def test_a_training_that_diverged_is_not_tried_again(store: ArtifactStore) -> None:
    world = _world(store)
    world.backend.failure = _failure

    first = world.failed(_batch(world), event_id="e1")
    second = world.failed(_batch(world), event_id="e2")

    assert first.evidence == second.evidence
    assert len(world.backend.trained) == 1
    assert world.backend.forgotten == [world.backend.trained[0].job_id] * 2


@pytest.mark.parametrize("error", [Interrupted("stop"), Permanent("diverged")])
def test_a_training_that_does_not_end_leaves_no_result(store: ArtifactStore, error: Exception) -> None:
    world = _world(store)
    world.backend.error = error

    with pytest.raises(type(error)):
        world.handle(_batch(world))

    assert store.doc_names("jobs") == []
    assert world.backend.forgotten == []


def test_a_base_that_an_earlier_run_made_keeps_its_history(store: ArtifactStore) -> None:
    world = _world(store)
    name = f"checkpoint:{world.base.sha256}"
    record(store, Node(name, "r0", ("plan:p0",), {}))

    world.handle(_request(world))

    node = find(store, name)
    assert node is not None
    assert node.inputs == ("plan:p0",)


def test_run_that_is_over_is_not_trained_and_leaves_no_resume_point(store: ArtifactStore) -> None:
    world = _world(store, base={"train": {"steps": 5}})
    world.backend.error = Interrupted("stopped")
    with pytest.raises(Interrupted, match="stopped"):
        world.handle(_request(world))
    assert world.backend.forgotten == []  # the run goes on: the resume point stays
    note_ended(store, "r1")
    world.backend.error = None
    with pytest.raises(Interrupted, match="is over"):
        world.handle(_request(world))
    assert (len(world.backend.forgotten), world.backend.trained) == (1, [])


def test_a_batch_that_people_review_is_not_trained_on_and_what_they_leave_is(store: ArtifactStore) -> None:
    world = _world(store)
    waiting = _batch(world)
    waiting.awaits_review = True
    left = _batch(world, example_count=3)
    left.reviewed_from.CopyFrom(waiting.batch)

    assert world.handle(waiting) == []
    assert world.backend.trained == []
    (ready,) = world.handle(left, event_id="e2")

    assert ready.kind == checkpoint_pb2.CHECKPOINT_KIND_CANDIDATE
    assert [job.batch for job in world.backend.trained] == [artifact_of(left.batch)]
