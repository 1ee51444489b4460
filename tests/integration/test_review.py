"""A run waits for people: real handlers of generator, trainer and controller over the embedded bus, and `mend`."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from controller_world import BETTER, WEAK, World
from generator_world import BIG, LIMITS, Sums
from google.protobuf.message import Message
from waiting import wait_until

from mendloop.artifacts.lineage import ancestry
from mendloop.artifacts.store import ArtifactStore
from mendloop.artifacts.tables import get_rows
from mendloop.bus.local import LocalBus
from mendloop.bus.receipts import StoredReceipts
from mendloop.bus.runtime import Handler, Worker
from mendloop.cli.app import main
from mendloop.controller.handlers import handlers as controller_handlers
from mendloop.core.contracts import (
    CONTROLLER,
    DATA_GENERATOR,
    TRAINER,
    all_topics,
    consumed_by,
    contract_of,
    decode,
)
from mendloop.core.events import envelope_for, stable_hash
from mendloop.core.records import Example
from mendloop.core.telemetry import Telemetry
from mendloop.core.training import TrainingJob, TrainingReport
from mendloop.data_generator.adapters.near_duplicates import MinHashIndex
from mendloop.data_generator.adapters.teacher import TaskTeacher
from mendloop.data_generator.handlers import Ports as GeneratorPorts
from mendloop.data_generator.handlers import handlers as generator_handlers
from mendloop.trainer.handlers import Ports as TrainerPorts
from mendloop.trainer.handlers import handlers as trainer_handlers
from mendloop.trainer.ports import Trained
from mendloop.v1 import checkpoint_pb2, intervention_pb2, loop_pb2

pytestmark = pytest.mark.integration
RUN = "reviewed-1"
WANTED = 8


@dataclass
class FakeTraining:
    """Stores a checkpoint named after the job, and remembers what it was asked."""

    store: ArtifactStore
    trained: list[TrainingJob] = field(default_factory=list)

    @contextmanager
    def hold(self, job: TrainingJob, *, is_stopping: Callable[[], bool]) -> Iterator[None]:
        yield

    def train(self, job: TrainingJob, *, is_stopping: Callable[[], bool], gpu_s_limit: float | None = None) -> Trained:
        self.trained.append(job)
        checkpoint = self.store.put(job.job_id.encode(), media_type="text/plain")
        return Trained(checkpoint, TrainingReport(job, (), ((1, 0.5),), 1, 700, 1.0, 1.0, ""), gpu_s=0.0)

    def forget(self, job: TrainingJob) -> None:
        """Nothing lies on this machine."""


class Loop:
    """Three services as workers in threads over one bus file; the test plays evaluator and diagnostician."""

    def __init__(self, home: Path, *, stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home, self._monkeypatch = home, monkeypatch
        home.mkdir()
        self.world = World(home / "artifacts", run_id=RUN, review=True, task="sums", budget={"new_examples": WANTED})
        self.store = self.world.store
        self.training = FakeTraining(self.store)
        self.bus = LocalBus(home / "bus.db")
        self.bus.ensure_topics(all_topics())
        stack.callback(self.bus.close)
        generator = GeneratorPorts(
            store=self.store,
            telemetry=Telemetry(DATA_GENERATOR),
            open_sources=lambda task, name, pool: [TaskTeacher(task, task_name=name)],
            open_index=MinHashIndex,
            limits=LIMITS,
            task_of=lambda spec: Sums(),
        )
        self._start(CONTROLLER, controller_handlers(self.world.ports), stack)
        self._start(TRAINER, trainer_handlers(TrainerPorts(self.store, self.training)), stack)
        self._start(DATA_GENERATOR, generator_handlers(generator), stack)

    def _start(self, service: str, handlers: dict[type[Message], Handler], stack: contextlib.ExitStack) -> None:
        bus = LocalBus(self.home / "bus.db")
        worker = Worker(
            service=service,
            bus=bus,
            handlers=handlers,
            receipts=StoredReceipts(self.store),
            telemetry=Telemetry(service),
            member=service,
        )
        thread = threading.Thread(target=worker.run)
        thread.start()
        stack.callback(bus.close)
        stack.callback(thread.join)
        stack.callback(worker.stop)

    def publish(self, *messages: Message) -> None:
        for message in messages:
            event_id = stable_hash(message.DESCRIPTOR.name, message.SerializeToString(deterministic=True))[:32]
            self.bus.publish([envelope_for(message, event_id=event_id, source="test", key=RUN, subject=RUN)])

    def seen(self, kind: type[Any]) -> list[Any]:
        envelopes = [delivery.envelope for delivery in self.bus.read([contract_of(kind).topic])]
        return [decode(envelope.event_type, envelope.value) for envelope in envelopes]

    def wait(self, kind: type[Any], *, count: int = 1) -> Any:
        return wait_until(lambda: found if len(found := self.seen(kind)) >= count else None, deadline_s=60)[count - 1]

    def mend(self, *arguments: str) -> int:
        self._monkeypatch.setattr(sys, "argv", ["mend", "--home", str(self.home), *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    def until_review(self) -> loop_pb2.ApprovalRequested:
        """A weak slice is diagnosed as missing data; the batch is made and people are asked."""
        base = self.world.evaluated(self.world.base_ready(), WEAK, weak=1)
        self.publish(self.world.requested(), base, self.world.diagnosed(base, BIG))
        question: loop_pb2.ApprovalRequested = self.wait(loop_pb2.ApprovalRequested)
        wait_until(lambda: not self.bus.lag(TRAINER, consumed_by(TRAINER)))
        return question

    def used(self, resource: str) -> float:
        [row] = [row for row in self.world.state().reservations if row.resource == resource]
        assert row.is_settled
        return row.used

    def finish(self) -> loop_pb2.LoopFinished:
        """The candidate is measured, and the run ends."""
        candidate = self.wait(checkpoint_pb2.CheckpointReady, count=2)
        self.publish(self.world.evaluated(candidate, BETTER))
        finished: loop_pb2.LoopFinished = self.wait(loop_pb2.LoopFinished)
        return finished


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    with contextlib.ExitStack() as stack:
        yield Loop(tmp_path / "home", stack=stack, monkeypatch=monkeypatch)


def filled(folder: Path, verdicts: dict[int, tuple[str, str]]) -> Path:
    """The exported lines with what a person wrote: accept, where nothing else is said."""
    lines = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    for place, line in enumerate(lines):
        line["verdict"], line["correction"] = verdicts.get(place, ("accept", ""))
        line["annotator"] = "ada"
    path = folder.with_suffix(".jsonl")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_training_waits_for_people_and_uses_what_they_left(loop: Loop, tmp_path: Path) -> None:
    question = loop.until_review()
    assert question.review
    assert loop.training.trained == []
    assert len(loop.seen(checkpoint_pb2.CheckpointReady)) == 1
    assert loop.mend("export", RUN, "--to", str(tmp_path / "rows"), "--format", "jsonl") == 0
    path = filled(tmp_path / "rows", {0: ("reject", ""), 1: ("correct", "a lot")})

    assert loop.mend("import", str(path), "--format", "jsonl", "--for", RUN, "--approve") == 0

    finished = loop.finish()
    made, left = loop.seen(intervention_pb2.DataBatchReady)
    assert (made.example_count, left.example_count) == (WANTED, WANTED - 1)
    assert left.reviewed_from == made.batch
    [job] = loop.training.trained
    assert job.batch is not None
    assert job.batch.sha256 == left.batch.sha256 != made.batch.sha256
    assert get_rows(loop.store, job.batch, kind=Example)[0].completion == "a lot"
    assert {row.stage: row.count for row in left.drops if row.stage == "review"} == {"review": 1}
    assert loop.used("new_examples") == WANTED - 1
    assert f"new_examples used {WANTED - 1} of {WANTED} reserved" in finished.summary
    candidate = loop.seen(checkpoint_pb2.CheckpointReady)[1]
    walked = [node for _, node in ancestry(loop.store, f"checkpoint:{candidate.checkpoint.sha256}")]
    assert [n.facts["reviewed_by"] for n in walked if n.kind == "batch" and "reviewed_by" in n.facts] == ["ada"]


def test_a_refused_batch_trains_nothing_and_settles_the_budget(loop: Loop) -> None:
    loop.until_review()

    assert loop.mend("refuse", RUN, "--reason", "too easy", "--by", "ada") == 0

    finished: loop_pb2.LoopFinished = loop.wait(loop_pb2.LoopFinished)
    assert finished.outcome == loop_pb2.LOOP_OUTCOME_ABSTAINED
    assert "ada refused the batch of round 1: too easy; nothing was trained" in finished.summary
    assert loop.training.trained == []
    assert (loop.used("new_examples"), loop.used("train_tokens")) == (0, 0)


def test_a_batch_can_be_approved_as_it_is(loop: Loop) -> None:
    loop.until_review()

    assert loop.mend("approve", RUN, "--by", "ada") == 0

    loop.finish()
    made, left = loop.seen(intervention_pb2.DataBatchReady)
    assert left.batch == made.batch
    assert [job.batch and job.batch.sha256 for job in loop.training.trained] == [made.batch.sha256]
    assert loop.used("new_examples") == WANTED


def test_a_review_that_leaves_nothing_or_comes_too_late_is_answered_in_words(
    loop: Loop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loop.until_review()
    loop.mend("export", RUN, "--to", str(tmp_path / "rows"), "--format", "jsonl")
    nothing = filled(tmp_path / "rows", dict.fromkeys(range(WANTED), ("reject", "")))
    capsys.readouterr()

    assert loop.mend("import", str(nothing), "--format", "jsonl", "--for", RUN, "--approve") == 1
    assert f"no row is left to train on: `mend refuse {RUN}`" in capsys.readouterr().err
    loop.mend("refuse", RUN)
    loop.wait(loop_pb2.LoopFinished)
    made = loop.seen(intervention_pb2.DataBatchReady)[0].batch.sha256
    everything = filled(tmp_path / "rows", {})

    assert loop.mend("import", str(everything), "--format", "jsonl", "--for", made, "--approve") == 1
    assert f"run {RUN} is over: abstained" in capsys.readouterr().err
