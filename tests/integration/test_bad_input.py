"""Bad input from the data generator to the end of the run: a clear state, a settled budget, nothing half-trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from builders import event
from controller_world import World, names, only
from generator_world import BIG, ListedSource, Stage, Sums, sum_of

from mendloop.core.records import Example, fingerprint
from mendloop.core.tasks import Conditions
from mendloop.core.training import TrainingJob
from mendloop.trainer.handlers import Ports, handlers
from mendloop.trainer.ports import Trained
from mendloop.v1 import intervention_pb2, loop_pb2


class Forbidden:
    """A training backend that must not be asked."""

    @contextmanager
    def hold(self, job: TrainingJob, *, is_stopping: Callable[[], bool]) -> Iterator[None]:
        yield

    def train(self, job: TrainingJob, *, is_stopping: Callable[[], bool], gpu_s_limit: float | None = None) -> Trained:
        raise AssertionError(f"job {job.job_id} is trained on a batch of nothing")

    def forget(self, job: TrainingJob) -> None:
        pass


def _contaminated(folder: Path) -> Stage:
    rows = [sum_of(200 + at, 300) for at in range(8)]
    marks = [fingerprint(row.prompt) for row in rows]
    return Stage(folder, sources=[ListedSource(rows)], spec_parts={"fingerprints": marks})


def _empty_pool(folder: Path) -> Stage:
    return Stage(folder, sources=[ListedSource([], name="pool")])


def _taught(lesson: Callable[[Conditions, int], Iterator[Example]]) -> Callable[[Path], Stage]:
    return lambda folder: Stage(folder, task=Sums(lesson=lesson))


def _garbage(conditions: Conditions, seed: int) -> Iterator[Example]:
    while True:
        yield Example("what?", "no idea", "teacher")


def _repeating(conditions: Conditions, seed: int) -> Iterator[Example]:
    while True:
        yield sum_of(0, 1)  # stands in the corpus


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (_contaminated, "decontamination: 8 "),
        (_empty_pool, "pool"),
        (_taught(_garbage), "verification: "),
        (_taught(_repeating), "duplicate: "),
    ],
)
def test_bad_input_ends_the_run_as_abstained_with_its_reasons(
    tmp_path: Path, made: Callable[[Path], Stage], reason: str
) -> None:
    stage, world = made(tmp_path / "generator"), World(tmp_path / "controller")
    plan = world.until_plan()
    ready = stage.answer(stage.plan((BIG, 5)))
    ready.plan.CopyFrom(plan)
    ready.position.CopyFrom(plan.position)
    trainer = handlers(Ports(world.store, Forbidden()))[intervention_pb2.DataBatchReady]

    trained = list(trainer(event(ready)))
    out = world.send(ready)

    assert trained == []
    assert names(out) == ["LoopFinished"]
    finished = only(out, loop_pb2.LoopFinished)
    assert finished.outcome == loop_pb2.LOOP_OUTCOME_ABSTAINED
    assert finished.checkpoint.sha256
    assert "no new example passed the funnel" in finished.summary
    assert reason in finished.summary
    assert _used(world) == {"new_examples": 0, "train_tokens": 0}


def _used(world: World) -> dict[str, float]:
    rows = world.state().reservations
    assert all(row.is_settled for row in rows)
    return {row.resource: row.used for row in rows if row.resource != "wall_s"}
