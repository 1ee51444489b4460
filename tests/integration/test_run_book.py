"""The gateway's read model on SQLite and on a real PostgreSQL: restart, replicas, repeated events, retention, pages."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from postgres import postgres_url  # noqa: F401  (the session's server)
from run_events import JUMP, data_run, dead_letter, evaluated, finished, position, ready, requested, sent
from sqlalchemy import Engine, Table, func, select, text

from mendloop.bus.local import LocalBus
from mendloop.core.contracts import all_topics, retry_topic
from mendloop.core.errors import InvalidRecipe
from mendloop.core.events import Envelope
from mendloop.core.wire import proportion, slice_message
from mendloop.database.engine import open_engine
from mendloop.gateway.adapters import run_tables
from mendloop.gateway.adapters.letter_desk import LetterDesk
from mendloop.gateway.adapters.migrate import migrate
from mendloop.gateway.adapters.retention import Keep
from mendloop.gateway.adapters.run_book import RunBook
from mendloop.gateway.adapters.run_queries import RunQueries
from mendloop.gateway.adapters.tables import metadata
from mendloop.gateway.domain.access import LOCAL
from mendloop.gateway.domain.run_lines import line_of
from mendloop.runs.model import RunView
from mendloop.runs.view import fold
from mendloop.v1 import evaluation_pb2, loop_pb2

pytestmark = pytest.mark.integration


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A migrated database."""
    url = f"sqlite:///{tmp_path}/gateway.db"
    if request.param == "postgresql":
        server = open_engine(request.getfixturevalue("postgres_url"))
        name = f"g{abs(hash(request.node.nodeid)):x}"
        with server.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
            db.execute(text(f"CREATE DATABASE {name}"))
        server.dispose()
        url = str(request.getfixturevalue("postgres_url")).replace("@/postgres?", f"@/{name}?")
    engine = open_engine(url)
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def bus(tmp_path: Path) -> LocalBus:
    bus = LocalBus(tmp_path / "bus.db")
    bus.ensure_topics(all_topics())
    return bus


class Clock:
    """A clock that stands until somebody moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _catch_up(*books: RunBook) -> None:
    for book in books:
        while book.step()[1]:
            pass


def _folded(events: list[Envelope]) -> RunView:
    view = None
    for event in events:
        view = fold(view, event)
    assert view is not None
    return view


def _row_count(engine: Engine, table: str) -> int:
    with engine.begin() as db:
        return db.execute(select(func.count()).select_from(metadata.tables[f"gateway_{table}"])).scalar_one()


def test_models_and_migrations_agree(engine: Engine) -> None:
    ours = {table.name for table in vars(run_tables).values() if isinstance(table, Table)}

    def is_ours(thing: object, name: str, kind: str, *_: object) -> bool:
        return kind != "table" or name in ours

    with engine.connect() as db:
        found = compare_metadata(MigrationContext.configure(db, opts={"include_object": is_ours}), metadata)
    assert len(ours) == 9
    assert found == []


def test_a_run_is_the_fold_of_its_events_also_after_a_restart(bus: LocalBus, engine: Engine) -> None:
    events = data_run("r1")
    bus.publish(events)
    _catch_up(RunBook(bus, engine))
    restarted = RunBook(bus, engine)
    assert restarted.step() == ([], False)
    assert restarted.view("r1") == _folded(events)
    assert restarted.view("other") is None


def test_restart_goes_on_from_the_stored_cursor(bus: LocalBus, engine: Engine) -> None:
    events = data_run("r1")
    bus.publish(events[:11])
    first = RunBook(bus, engine)
    _catch_up(first)
    bus.publish(events[11:])
    second = RunBook(bus, engine)
    assert second.cursor == first.cursor
    assert [event.envelope.event_id for event in second.step()[0]] == [event.event_id for event in events[11:]]
    assert second.view("r1") == _folded(events)
    assert _row_count(engine, "events") == len(events)


def test_newest_events_are_given_out_again_after_a_restart_and_written_once(bus: LocalBus, engine: Engine) -> None:
    events = data_run("r1")
    bus.publish(events[:15])
    first = RunBook(bus, engine)
    _catch_up(first)
    bus.publish(events[15:])
    second = RunBook(bus, engine, recall_count=6)
    assert [event.envelope.event_id for event in second.step()[0]] == [event.event_id for event in events[9:]]
    assert second.view("r1") == _folded(events)
    assert _row_count(engine, "events") == len(events)


def test_replicas_write_each_event_once_and_see_the_same(bus: LocalBus, engine: Engine) -> None:
    events = data_run("r1")
    bus.publish(events[:6])
    ahead, behind = RunBook(bus, engine), RunBook(bus, engine)
    _catch_up(ahead, behind)
    bus.publish(events[6:12])
    _catch_up(ahead)
    assert behind.view("r1") == ahead.view("r1") == _folded(events[:12])
    bus.publish(events[12:])
    _catch_up(behind, ahead)
    assert _row_count(engine, "events") == len(events)
    assert behind.view("r1") == ahead.view("r1") == _folded(events)
    [line] = RunQueries(engine).list_runs(asker=LOCAL, limit=10).items
    assert line == line_of(_folded(events))


def test_a_replica_that_is_behind_moves_no_cursor_back(bus: LocalBus, engine: Engine) -> None:
    late = RunBook(bus, engine)
    bus.publish(data_run("r1"))
    _catch_up(early := RunBook(bus, engine))
    late.step()
    assert RunBook(bus, engine).cursor == early.cursor


def test_replicas_at_the_same_moment_double_nothing(bus: LocalBus, engine: Engine) -> None:
    runs = [data_run(f"r{n}") for n in range(6)]
    books = [RunBook(bus, engine) for _ in range(3)]
    threads = [threading.Thread(target=_follow, args=(book, 6)) for book in books]
    for thread in threads:
        thread.start()
    for events in runs:
        bus.publish(events)
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert _row_count(engine, "events") == sum(map(len, runs))
    for book in books:
        assert [book.view(f"r{n}") for n in range(6)] == [_folded(events) for events in runs]


def _follow(book: RunBook, run_count: int) -> None:
    def is_done() -> bool:
        views = [book.view(f"r{n}") for n in range(run_count)]
        return all(view is not None and view.is_finished for view in views)

    while not is_done():
        book.step()


def test_an_event_delivered_twice_changes_nothing(bus: LocalBus, engine: Engine) -> None:
    events = data_run("r1")
    bus.publish([*events[:8], events[7]])
    _catch_up(RunBook(bus, engine))
    bus.publish([events[7], *events[8:], events[-1]])
    book = RunBook(bus, engine)
    _catch_up(book)
    assert book.view("r1") == _folded(events)
    assert RunQueries(engine).list_slices("r1", limit=10).total == 2


def test_events_wait_while_the_database_is_away(tmp_path: Path, bus: LocalBus) -> None:
    path, clock, events = tmp_path / "gateway.db", Clock(), data_run("r1")
    engine = open_engine(f"sqlite:///{path}", busy_timeout_s=0.05)
    migrate(engine)
    book = RunBook(bus, engine, clock=clock)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    bus.publish(events)
    assert len(book.step()[0]) == len(events), "streams go on"
    assert "locked" in book.trouble
    assert book.view("r1") is None
    holder.execute("ROLLBACK")
    clock.now += 2
    assert book.step() == ([], False)
    assert book.trouble == ""
    assert book.view("r1") == _folded(events)
    holder.close()
    engine.dispose()


def test_a_database_of_another_log_is_refused(tmp_path: Path, bus: LocalBus, engine: Engine) -> None:
    bus.publish(data_run("r1"))
    _catch_up(RunBook(bus, engine, is_log_whole=True))
    assert RunBook(bus, engine, is_log_whole=True).step() == ([], False)
    other = LocalBus(tmp_path / "other.db")
    with pytest.raises(InvalidRecipe, match="another log"):
        RunBook(other, engine, is_log_whole=True)
    assert RunBook(other, engine).step() == ([], False), "a log that forgets may have forgotten it"
    other.publish([replace(event, headers={**event.headers, "ce_id": "new"}) for event in data_run("r1")])
    with pytest.raises(InvalidRecipe, match="another log"):
        RunBook(other, engine)


def test_only_the_newest_finished_runs_are_kept(bus: LocalBus, engine: Engine) -> None:
    clock = Clock()
    book = RunBook(bus, engine, keep=Keep(runs=2), clock=clock)
    for n in range(5):
        start = sent(loop_pb2.LoopRequested(position=position(f"r{n}")), second=n, event_id=f"start-{n}")
        bus.publish([start, sent(finished(f"r{n}"), second=100 + n, event_id=f"end-{n}")])
    bus.publish([requested("goes-on", second=0)])
    _catch_up(book)
    names = [line.run_id for line in RunQueries(engine).list_runs(asker=LOCAL, limit=10).items]
    assert sorted(names) == ["goes-on", "r3", "r4"]
    assert book.view("r0") is None
    assert book.dropped_counts()["runs let go"] == 3
    bus.publish([sent(ready("r0"), second=200)])
    clock.now += 100
    _catch_up(book)
    assert book.view("r0") is None
    assert book.dropped_counts()["run was let go"] == 1
    assert _row_count(engine, "events") == 5


def test_runs_that_ended_too_long_ago_are_let_go(bus: LocalBus, engine: Engine) -> None:
    bus.publish([*data_run("old"), requested("goes-on")])
    _catch_up(book := RunBook(bus, engine, keep=Keep(days=1)))
    assert book.view("old") is None
    assert book.view("goes-on") is not None
    assert [_row_count(engine, name) for name in ("slices", "slice_scores", "dead_letters")] == [0, 0, 0]


def test_text_that_a_database_refuses_stops_nothing(bus: LocalBus, engine: Engine) -> None:
    odd = finished("r1")
    odd.summary = "zero \0 byte"
    bus.publish([requested("r1"), sent(odd, second=5), sent(ready("a\0b"), second=6), requested("r2", second=7)])
    _catch_up(book := RunBook(bus, engine))
    lines = RunQueries(engine).list_runs(asker=LOCAL, limit=10).items
    assert [(line.run_id, line.summary) for line in lines] == [("r2", ""), ("r1", "zero \ufffd byte")]
    assert book.dropped_counts()["unreadable"] == 1
    assert book.view("a\0b") is None


def test_runs_come_in_pages_and_by_what_they_say(bus: LocalBus, engine: Engine) -> None:
    for n in range(7):
        bus.publish([requested(f"run-{n}", second=n % 3)])
    bus.publish(data_run("done"))
    _catch_up(RunBook(bus, engine))
    queries = RunQueries(engine)
    seen, cursor = [], ""
    while True:
        page = queries.list_runs(asker=LOCAL, limit=3, cursor=cursor)
        assert page.total == 8
        seen += [(line.started_at, line.run_id) for line in page.items]
        cursor = page.next_cursor
        if not cursor:
            break
    assert len(seen) == 8
    assert seen == sorted(seen, reverse=True)
    for wanted in ({"outcome": "promoted"}, {"q": "VERB=jump"}, {"q": "data_missing ada"}, {"state": "finished"}):
        assert [line.run_id for line in queries.list_runs(asker=LOCAL, limit=9, **wanted).items] == ["done"], wanted
    assert queries.list_runs(asker=LOCAL, limit=9, q="100%").total == 0


def test_slices_come_weak_first_with_their_trend(bus: LocalBus, engine: Engine) -> None:
    base = evaluated("r1")
    names = [slice_message([("number", f"n{n:02}")]) for n in range(30)]
    base.slices.extend(evaluation_pb2.SliceScore(slice=one, accuracy=proportion(3, 4)) for one in names)
    bus.publish([sent(base), *data_run("r1")[5:], *data_run("r2")])
    _catch_up(RunBook(bus, engine))
    queries = RunQueries(engine)
    seen, cursor = [], ""
    while True:
        page = queries.list_slices("r1", limit=7, cursor=cursor)
        seen += page.items
        cursor = page.next_cursor
        if not cursor:
            break
    weak = ["turn=right ∧ verb=jump", "verb=jump"]
    assert [line.definition for line in seen] == sorted(weak) + [f"number=n{n:02}" for n in range(30)]
    jump = next(line for line in seen if line.slice_id == JUMP.slice_id)
    assert (jump.is_weak, jump.is_weak_now, jump.cause, jump.confidence) == (True, False, "DATA_MISSING", 0.9)
    assert [(point.round, point.correct, point.n, point.is_weak) for point in jump.trend] == [
        (0, 0, 30, True),
        (1, 25, 30, False),
    ]
    assert queries.list_slices("r1", limit=9, is_weak=False, q="N03").items[0].definition == "number=n03"
    assert queries.list_slices("r1", limit=9, cause="DATA_MISSING").total == 2


def test_a_dead_letter_is_given_back_once(bus: LocalBus, engine: Engine) -> None:
    refused = sent(ready("r1"), event_id="refused")
    bus.publish([requested("r1"), dead_letter(refused), replace(dead_letter(refused), key="again")])
    _catch_up(RunBook(bus, engine))
    desk = LetterDesk(bus, engine, clock=lambda: 1_700_000_000.0)
    first, second = (desk.replay("dead-refused", by=who, reason="fixed") for who in ("ada", "bo"))
    assert first == second == RunQueries(engine).list_letters(limit=5).items[0]
    assert first is not None
    assert (first.replayed_by, first.service, first.event_type) == ("ada", "trainer", "mendloop.v1.CheckpointReady")
    [given] = bus.read([retry_topic("trainer")])
    assert (given.envelope.event_id, given.envelope.value) == ("refused", refused.value)
    assert desk.replay("other", by="", reason="") is None
