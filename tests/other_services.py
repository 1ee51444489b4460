"""The services beside the controller, as handlers that say what they would do: whole runs without a model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from controller_world import World, sealed_counts
from google.protobuf.message import Message

from mendloop.bus.local import LocalBus
from mendloop.bus.receipts import StoredReceipts
from mendloop.bus.runtime import Emit, Event, Worker
from mendloop.core.contracts import DATA_GENERATOR, DIAGNOSTICIAN, EVALUATOR, TRAINER
from mendloop.core.telemetry import Telemetry
from mendloop.core.wire import slice_message
from mendloop.v1 import checkpoint_pb2, evaluation_pb2, intervention_pb2, loop_pb2

STOP_S = 120.0


class Others:
    """Trainer, evaluator, diagnostician and data generator of several runs, as handlers.

    right: by run, the right items a verb on the base and after each round.
    """

    def __init__(self, worlds: Mapping[str, World], *, right: Mapping[str, Sequence[Mapping[str, int]]]) -> None:
        self._worlds, self._right = worlds, right

    def table(self) -> dict[str, dict[type[Message], Callable[[Any], list[Emit]]]]:
        """The handlers by service."""
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
        done = self._world(event).evaluated(ready, self._of(ready), weak=weak, sealed=sealed)
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
        return self._said(event, self._world(event).diagnosed(done, failed=100 - self._of(failed)["jump"]))

    def _fill(self, event: Event) -> list[Emit]:
        plan: Any = event.message
        return self._said(event, self._world(event).batched(plan, count=sum(i.example_count for i in plan.items)))

    def _of(self, message: Any) -> Mapping[str, int]:
        return self._right[message.position.run_id][message.position.round]

    def _world(self, event: Event) -> World:
        message: Any = event.message
        return self._worlds[message.position.run_id]

    def _said(self, event: Event, message: Message) -> list[Emit]:
        run_id = self._world(event).run_id
        return [Emit(message, key=run_id, subject=run_id)]


@contextmanager
def working(bus: LocalBus, folder: Path, tables: dict[str, Any]) -> Iterator[None]:
    """Run the handlers of every service as workers over the bus."""
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
            thread.join(timeout=STOP_S)
