"""Two runs of two rounds at once over the embedded bus: the controller is real, the other services say what they do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from controller_world import BETTER, WEAK, World, sealed_counts
from google.protobuf.message import Message

from mendloop.bus.local import LocalBus
from mendloop.bus.receipts import StoredReceipts
from mendloop.bus.runtime import Emit, Event, Worker
from mendloop.controller.adapters.migrate import migrate
from mendloop.controller.adapters.sql import SqlRuns
from mendloop.controller.handlers import handlers
from mendloop.core.contracts import CONTROLLER, DATA_GENERATOR, DIAGNOSTICIAN, EVALUATOR, TRAINER, all_topics
from mendloop.core.events import envelope_for
from mendloop.core.telemetry import Telemetry
from mendloop.core.wire import slice_message
from mendloop.database.engine import open_engine
from mendloop.runs.log import RunLog
from mendloop.v1 import checkpoint_pb2, evaluation_pb2, intervention_pb2, loop_pb2

pytestmark = pytest.mark.integration
DEADLINE_S = 120.0
RIGHT = (WEAK, {**BETTER, "jump": 55}, {**BETTER, "jump": 95})
"""Right items a verb on the base and after each round."""


class Others:
    """Trainer, evaluator, diagnostician and data generator of several runs, as handlers."""

    def __init__(self, worlds: dict[str, World]) -> None:
        self._worlds = worlds

    def table(self) -> dict[str, dict[type[Message], Callable[[Any], list[Emit]]]]:
        return {
            TRAINER: {loop_pb2.LoopRequested: self._base, intervention_pb2.DataBatchReady: self._train},
            EVALUATOR: {checkpoint_pb2.CheckpointReady: self._evaluate},
            DIAGNOSTICIAN: {evaluation_pb2.EvalFailed: self._diagnose},
            DATA_GENERATOR: {intervention_pb2.InterventionPlanned: self._fill},
        }

    def _base(self, event: Event) -> list[Emit]:
        return self._said(event, self._world(event).base_ready())

    def _train(self, event: Event) -> list[Emit]:
        batch: Any = event.message
        return self._said(event, self._world(event).candidate_ready(batch.plan))

    def _evaluate(self, event: Event) -> list[Emit]:
        ready: Any = event.message
        weak = int(ready.diagnosis_wanted)
        sealed = sealed_counts() if ready.position.round else []
        done = self._world(event).evaluated(ready, RIGHT[ready.position.round], weak=weak, sealed=sealed)
        failed = evaluation_pb2.EvalFailed(
            position=ready.position,
            evaluation_id=done.evaluation_id,
            slice=slice_message([("verb", "jump")]),
            checkpoint_ready=ready,
            weak_slice_count=weak,
        )
        return self._said(event, done) + (self._said(event, failed) if weak else [])

    def _diagnose(self, event: Event) -> list[Emit]:
        failed: Any = event.message
        done = evaluation_pb2.EvalCompleted(
            position=failed.position, evaluation_id=failed.evaluation_id, weak_slice_count=failed.weak_slice_count
        )
        return self._said(event, self._world(event).diagnosed(done, failed=100 - RIGHT[failed.position.round]["jump"]))

    def _fill(self, event: Event) -> list[Emit]:
        plan: Any = event.message
        return self._said(event, self._world(event).batched(plan, count=sum(i.example_count for i in plan.items)))

    def _world(self, event: Event) -> World:
        message: Any = event.message
        return self._worlds[message.position.run_id]

    def _said(self, event: Event, message: Message) -> list[Emit]:
        run_id = self._world(event).run_id
        return [Emit(message, key=run_id, subject=run_id)]


@contextmanager
def _working(bus: LocalBus, folder: Path, tables: dict[str, Any]) -> Iterator[None]:
    workers = [
        Worker(
            service=service,
            bus=bus,
            handlers=table,
            receipts=StoredReceipts(World(folder / "store").store),
            telemetry=Telemetry(service),
            member=f"{service}-1",
        )
        for service, table in tables.items()
    ]
    threads = [threading.Thread(target=worker.run) for worker in workers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.stop()
        for thread in threads:
            thread.join(timeout=DEADLINE_S)


def test_two_runs_of_two_rounds_promote_twice_each(tmp_path: Path) -> None:
    bus = LocalBus(tmp_path / "bus.db")
    bus.ensure_topics(all_topics())
    engine = open_engine(f"sqlite:///{tmp_path}/controller.db")
    migrate(engine)
    worlds = {
        name: World(tmp_path / "store", runs=SqlRuns(engine), run_id=name, rounds=2, clock=time.time)
        for name in ("run-a", "run-b")
    }
    first, second = worlds.values()
    first.outcomes.tables = second.outcomes.tables  # tables are named by content; one controller reads both
    tables = {**Others(worlds).table(), CONTROLLER: handlers(second.ports)}
    log = RunLog(bus)
    with _working(bus, tmp_path, tables):
        for world in worlds.values():
            request = world.requested()
            event_id = f"request-{world.run_id}"
            bus.publish([envelope_for(request, event_id=event_id, source="gateway", key=world.run_id)])
        _await(lambda: all(_finished(log, name) for name in worlds))
    for name in worlds:
        view = log.view(name)
        assert view is not None
        assert view.outcome == "promoted", view.summary
        assert [part.decision.promoted for part in view.rounds if part.decision] == [True, True]
        assert [sum(i.example_count for i in part.plan.items) for part in view.rounds if part.plan] == [32, 32]
        assert not view.dead_letters
    engine.dispose()


def _finished(log: RunLog, name: str) -> bool:
    log.refresh()
    view = log.view(name)
    return view is not None and view.is_finished


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the runs did not finish"
        time.sleep(0.05)
