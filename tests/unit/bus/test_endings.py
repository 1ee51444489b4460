"""Work for a run that is over is not begun, and work that has begun stops."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import event

from mendloop.artifacts.store import ArtifactStore
from mendloop.bus.endings import LOOK_S, has_ended, note_ended, unless_ended, until_ended
from mendloop.bus.runtime import Emit, Event
from mendloop.core.errors import Interrupted
from mendloop.v1 import common_pb2, loop_pb2, operations_pb2

MESSAGE = loop_pb2.LoopRequested(position=common_pb2.RunPosition(run_id="r1"))


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


def _emit(_: Event) -> list[Emit]:
    return [Emit(MESSAGE, "r1")]


def test_event_of_a_run_that_is_over_is_left_out_and_others_are_handled(store: ArtifactStore) -> None:
    handler = unless_ended({loop_pb2.LoopRequested: _emit}, store=store)[loop_pb2.LoopRequested]
    note_ended(store, "r2")
    assert len(list(handler(event(MESSAGE)))) == 1
    note_ended(store, "r1")
    assert list(handler(event(MESSAGE))) == []
    assert has_ended(store, "r1")


def test_work_is_told_to_stop_when_its_run_ends_and_is_not_given_back(store: ArtifactStore) -> None:
    now = [0.0]
    seen = []

    def work(event: Event) -> list[Emit]:
        seen.append(event.is_stopping())
        note_ended(store, "r1")
        seen.append(event.is_stopping())  # too soon for another look
        now[0] += LOOK_S
        seen.append(event.is_stopping())
        raise Interrupted("stopped")

    handler = unless_ended({loop_pb2.LoopRequested: work}, store=store, clock=lambda: now[0])
    assert list(handler[loop_pb2.LoopRequested](event(MESSAGE))) == []
    assert seen == [False, False, True]


def test_service_that_cleans_up_gets_events_of_runs_that_are_over(store: ArtifactStore) -> None:
    note_ended(store, "r1")
    handler = until_ended({loop_pb2.LoopRequested: _emit}, store=store)[loop_pb2.LoopRequested]
    assert len(list(handler(event(MESSAGE)))) == 1


def test_service_that_stops_gives_the_work_of_an_open_run_back(store: ArtifactStore) -> None:
    def work(event: Event) -> list[Emit]:
        assert event.is_stopping()
        raise Interrupted("stopped")

    handler = unless_ended({loop_pb2.LoopRequested: work}, store=store)[loop_pb2.LoopRequested]
    with pytest.raises(Interrupted):
        list(handler(event(MESSAGE, is_stopping=True)))


def test_event_without_a_run_is_handled(store: ArtifactStore) -> None:
    handler = unless_ended({operations_pb2.DeadLetter: _emit}, store=store)[operations_pb2.DeadLetter]
    assert len(list(handler(event(operations_pb2.DeadLetter())))) == 1
