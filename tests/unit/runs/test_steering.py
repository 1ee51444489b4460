"""What a person may ask of a run: one event each, refused in words where the run is not in the state for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_events import data_run, finished, position, promoted, ref, requested, sent

from mendloop.bus.local import LocalBus
from mendloop.core.contracts import all_topics
from mendloop.runs import steering
from mendloop.runs.answering import NotNow
from mendloop.runs.log import RunLog
from mendloop.runs.model import RunView
from mendloop.runs.stages import state_of
from mendloop.v1 import checkpoint_pb2


class Deployment:
    """A bus with one run, and its view."""

    def __init__(self, folder: Path) -> None:
        self.bus = LocalBus(folder / "bus.db")
        self.bus.ensure_topics(all_topics())
        self.runs = RunLog(self.bus)

    def view(self) -> RunView:
        self.runs.refresh()
        view = self.runs.view("r1")
        assert view is not None
        return view

    def steer(self, action: str, *, reason: str = "") -> RunView:
        steering.steer(self.view(), bus=self.bus, action=action, reason=reason, by="ada")
        return self.view()


@pytest.fixture
def world(tmp_path: Path) -> Deployment:
    made = Deployment(tmp_path)
    made.bus.publish([requested("r1")])
    return made


def test_run_is_paused_and_resumed_as_often_as_asked_and_each_only_once(world: Deployment) -> None:
    assert state_of(world.steer(steering.PAUSE, reason="night")) == "paused"
    assert len(world.steer(steering.PAUSE).steerings) == 1
    assert not world.steer(steering.RESUME).is_paused
    again = world.steer(steering.PAUSE)
    assert [part.action for part in again.steerings] == ["pause", "resume", "pause"]
    assert (again.steerings[0].reason, again.steerings[0].steered_by) == ("night", "ada")


def test_two_people_who_pause_at_once_make_one_event(world: Deployment) -> None:
    view = world.view()
    for by in ("ada", "bo"):
        steering.steer(view, bus=world.bus, action=steering.PAUSE, reason="", by=by)
    assert len(world.view().steerings) == 1


def test_run_that_is_over_can_be_neither_paused_nor_cancelled(world: Deployment) -> None:
    world.bus.publish([sent(finished("r1"), second=30)])
    with pytest.raises(NotNow, match="is over: promoted"):
        world.steer(steering.PAUSE)
    with pytest.raises(NotNow, match="is over: promoted"):
        steering.cancel(world.view(), bus=world.bus, reason="", by="")


def test_promotion_is_rolled_back_where_one_stands(world: Deployment) -> None:
    with pytest.raises(NotNow, match="no promotion that stands"):
        world.steer(steering.ROLL_BACK)
    world.bus.publish([sent(promoted("r1"), second=20), sent(finished("r1"), second=30)])
    assert world.steer(steering.ROLL_BACK).steerings[-1].action == "roll_back"
    taken = checkpoint_pb2.CheckpointRolledBack(
        position=position("r1", 1), checkpoint=ref("c"), restored=ref("a"), reason="tone", rolled_back_by="ada"
    )
    world.bus.publish([sent(taken, second=40)])
    assert world.view().rollbacks[0].reason == "tone"
    assert "ada took back round 1" in world.view().summary
    with pytest.raises(NotNow, match="taken back already"):
        world.steer(steering.ROLL_BACK)


def test_answer_without_a_plan_id_is_for_the_plan_that_waits(tmp_path: Path) -> None:
    world = Deployment(tmp_path)
    world.bus.publish(data_run("r1")[:10])
    steering.answer(world.view(), bus=world.bus, approved=False, reason="too dear", by="bo")
    answer = next(part.answer for part in world.view().rounds if part.answer)
    assert (answer.plan_id, answer.approved, answer.approved_by) == ("p1", False, "bo")
    with pytest.raises(NotNow, match="refused by bo already"):
        steering.answer(world.view(), bus=world.bus, approved=True, reason="", by="ada", plan_id="p1")


def test_run_that_waits_for_nothing_says_so(world: Deployment) -> None:
    with pytest.raises(NotNow, match="does not wait for an answer; it waits for none"):
        steering.answer(world.view(), bus=world.bus, approved=True, reason="", by="")
