"""The log of runs and the stream of events: incremental, bounded, resumable, and every event left out is counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from builders import recipe, run_spec
from run_events import JUMP, RIGHT, data_run, diagnosed, failed, finished, planned, position, ready, requested, sent

from mendloop.artifacts.store import ArtifactStore
from mendloop.bus.local import LocalBus
from mendloop.core.events import Envelope
from mendloop.core.wire import artifact_ref
from mendloop.runs.filters import EventFilter
from mendloop.runs.stream import LogReader, decode_cursor, encode_cursor, end_of, follow
from mendloop.runs.view import RunLog, fold, state_of
from mendloop.v1 import loop_pb2, operations_pb2


@pytest.fixture
def bus(tmp_path: Path) -> LocalBus:
    return LocalBus(tmp_path / "bus.db")


def test_refresh_folds_only_what_is_new(bus: LocalBus) -> None:
    runs = RunLog(bus)
    events = data_run("r1")
    bus.publish(events[:5])
    assert len(runs.refresh()) == 5
    bus.publish(events[5:])
    assert len(runs.refresh()) == 14
    assert runs.refresh() == []
    expected = None
    for event in events:
        expected = fold(expected, event)
    assert runs.view("r1") == expected


def test_runs_are_listed_newest_first(bus: LocalBus) -> None:
    bus.publish([requested("old", second=1), requested("new", second=2)])
    runs = RunLog(bus)
    runs.refresh()
    assert [view.run_id for view in runs.views()] == ["new", "old"]
    assert runs.view("other") is None


def test_recipe_is_read_from_the_store(bus: LocalBus, tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store")
    spec = run_spec(store, recipe=recipe(rounds=3, approval=True)).store(store)
    message = loop_pb2.LoopRequested(position=position("r1"), run_spec=artifact_ref(spec))
    bus.publish([sent(message)])
    runs = RunLog(bus, store=store)
    runs.refresh()
    view = runs.view("r1")
    assert view is not None
    assert view.recipe is not None
    assert (view.recipe_name, view.recipe.rounds, view.recipe.approval) == ("tiny", 3, True)


def test_run_whose_recipe_is_gone_is_shown_without_it(bus: LocalBus, tmp_path: Path) -> None:
    bus.publish([requested("r1")])
    runs = RunLog(bus, store=ArtifactStore(tmp_path / "store"))
    runs.refresh()
    view = runs.view("r1")
    assert view is not None
    assert view.recipe_name == ""
    assert runs.dropped_counts() == {"recipe unreadable": 1}


def test_oldest_finished_run_goes_first_and_is_counted(bus: LocalBus) -> None:
    bus.publish([requested("going", second=0), requested("done", second=1), sent(finished("done"), second=2)])
    bus.publish([requested("next", second=3), sent(ready("done"), second=4)])
    runs = RunLog(bus, keep_runs=2)
    runs.refresh()
    assert {view.run_id for view in runs.views()} == {"going", "next"}
    assert runs.dropped_counts() == {"runs let go": 1, "run no longer held": 1}


def test_events_that_cannot_be_used_are_counted_and_stop_nothing(bus: LocalBus) -> None:
    good = requested("r1")
    stray = sent(operations_pb2.DeadLetter(handler="trainer"), key="k", event_id="stray")
    bus.publish(
        [
            replace(good, value=b"\xff", headers={**good.headers, "ce_id": "broken"}),
            Envelope(good.topic, "k", b"", {}),
            stray,
            good,
            good,
        ]
    )
    runs = RunLog(bus)
    assert [event.envelope.event_id for event in runs.refresh()] == ["stray", "requested-r1"]
    assert runs.dropped_counts() == {"unreadable": 2, "without a run": 1, "repeated": 1}


def test_reading_in_pages_of_one_gives_what_one_page_gives(bus: LocalBus) -> None:
    bus.publish([*data_run("r1"), *data_run("r2")])
    reader, seen = LogReader(bus), []
    is_more = True
    while is_more:
        page, is_more = reader.next(limit=1)
        seen += [event.envelope.event_id for event in page]
    assert seen == [event.envelope.event_id for event in LogReader(bus).next()[0]]
    assert len(seen) == 38


def test_cursor_resumes_after_any_event(bus: LocalBus) -> None:
    bus.publish(data_run("r1"))
    events, _ = LogReader(bus).next()
    for index, event in enumerate(events):
        resumed = LogReader(bus, cursor=decode_cursor(encode_cursor(event.cursor)))
        assert [e.envelope.event_id for e in resumed.next()[0]] == [e.envelope.event_id for e in events[index + 1 :]]


@pytest.mark.parametrize("text", ["", "!", "e30", "eJyrBQAAegB6", encode_cursor({"t": {0: -1}})])
def test_string_that_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no cursor"):
        decode_cursor(text)


def test_follow_from_now_gives_only_what_comes(bus: LocalBus) -> None:
    bus.publish(data_run("r1"))
    start = end_of(bus)
    rest = [data_run("r2")[:2], data_run("r2")[2:3]]
    events = follow(bus, cursor=start, sleep=lambda s: bus.publish(rest.pop(0)), is_stopping=lambda: False)
    assert [next(events).envelope.event_id for _ in range(3)] == ["r2/0", "r2/1", "r2/2"]


def test_follow_ends_when_told(bus: LocalBus) -> None:
    bus.publish(data_run("r1"))
    stopped: list[float] = []
    events = list(follow(bus, is_stopping=lambda: bool(stopped), sleep=stopped.append))
    assert len(events) == 19


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (EventFilter.of(), [True, True, True, True]),
        (EventFilter.of(runs=["r1"]), [True, True, True, False]),
        (EventFilter.of(types=["EvalFailed", "mendloop.v1.InterventionPlanned"]), [True, False, True, False]),
        (EventFilter.of(causes=["data_missing"]), [False, True, True, False]),
        (EventFilter.of(causes=["CAUSE_EOS_MASKED"]), [False, False, False, False]),
        (EventFilter.of(slices=["verb=jump"]), [True, True, True, False]),
        (EventFilter.of(slices=["verb=jump, turn=right"]), [False, True, False, False]),
        (EventFilter.of(slices=["turn=right ∧ verb=jump"]), [False, True, False, False]),
        (EventFilter.of(slices=[RIGHT.slice_id]), [False, True, False, False]),
        (EventFilter.of(slices=[""]), [False, False, False, False]),
        (EventFilter.of(slices=["verb=jump"], causes=["data_missing"]), [False, True, True, False]),
    ],
)
def test_filter_matches_by_run_type_cause_and_slice(wanted: EventFilter, matches: list[bool]) -> None:
    messages = [failed("r1", JUMP), diagnosed("r1", RIGHT), planned("r1"), ready("r2")]
    assert [wanted.matches(message) for message in messages] == matches


def test_filter_names_what_it_knows() -> None:
    with pytest.raises(ValueError, match=r"known are .*EvalFailed"):
        EventFilter.of(types=["Failed"])
    with pytest.raises(ValueError, match=r"known are .*EOS_MASKED"):
        EventFilter.of(causes=["bad luck"])


def test_run_that_was_never_requested_is_shown_from_what_is_there(bus: LocalBus) -> None:
    bus.publish([sent(ready("r1"), second=5)])
    runs = RunLog(bus)
    runs.refresh()
    view = runs.view("r1")
    assert view is not None
    assert (state_of(view), view.started_at) == ("evaluating", view.first_at)
