"""The statements that write down what a page of the log says. Knows tables and rows; decides nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, Engine, func, select

from mendloop.bus.base import Cursor, joined
from mendloop.database.engine import insert, reading, retryable, upsert
from mendloop.gateway.adapters.event_rows import event_row, letter_row, touched_slices
from mendloop.gateway.adapters.run_rows import run_row, slice_rows
from mendloop.gateway.adapters.run_tables import dead_letters, events, gone_runs, places, runs, slice_scores, slices
from mendloop.gateway.adapters.view_cache import Folded
from mendloop.runs.stream import StreamEvent, encode_cursor
from mendloop.v1 import operations_pb2


class NewFold(NamedTuple):
    """A run after new events, and the events that changed it."""

    folded: Folded
    new: tuple[StreamEvent, ...]


def stored_cursor(engine: Engine) -> Cursor:
    """Up to where the log is written down. Raises Retryable where the database is away."""
    with retryable(), reading(engine).begin() as db:
        return read_places(db)


def recalled_cursor(engine: Engine, *, cursor: Cursor, count: int) -> Cursor:
    """A cursor before the given one: the newest `count` written events, and what stands between them in the log, lie
    behind it. Raises Retryable where the database is away."""
    newest = (
        select(events.c.topic, events.c.part, events.c.pos).order_by(events.c.serial.desc()).limit(count).subquery()
    )
    firsts = select(newest.c.topic, newest.c.part, func.min(newest.c.pos).label("pos"))
    earlier = joined(cursor, {})
    with retryable(), reading(engine).begin() as db:
        for row in db.execute(firsts.group_by(newest.c.topic, newest.c.part)):
            offsets = earlier.setdefault(row.topic, {})
            offsets[row.part] = min(row.pos, offsets.get(row.part, row.pos))
    return earlier


def read_places(db: Connection) -> Cursor:
    """Next offsets by topic and partition."""
    cursor: Cursor = {}
    for row in db.execute(select(places)):
        cursor.setdefault(row.topic, {})[row.part] = row.next_pos
    return cursor


def write_places(db: Connection, cursor: Cursor, *, known: Cursor) -> None:
    """A replica that is behind moves nothing back."""
    rows = [
        {"topic": topic, "part": part, "next_pos": offset}
        for topic, offsets in cursor.items()
        for part, offset in offsets.items()
        if offset > known.get(topic, {}).get(part, 0)
    ]
    if rows:
        upsert(db, places, rows)


def drop_gone(db: Connection, by_run: dict[str, list[StreamEvent]]) -> Counter[str]:
    """Takes out what belongs to runs that were let go, and to ids that no database takes; says how much that was."""
    dropped: Counter[str] = Counter()
    for run_id in [run_id for run_id in by_run if "\0" in run_id]:
        dropped["unreadable"] += len(by_run.pop(run_id))
    asked = select(gone_runs.c.run_id).where(gone_runs.c.run_id.in_(list(by_run)))
    for row in db.execute(asked).all() if by_run else ():
        dropped["run was let go"] += len(by_run.pop(row.run_id))
    return dropped


def write_events(db: Connection, kept: Sequence[StreamEvent]) -> None:
    """Events in their order, each place of the log once; dead letters beside them."""
    db.execute(insert(db, events).on_conflict_do_nothing(), [event_row(event) for event in kept])
    rows = [letter_row(event, event.message) for event in kept if isinstance(event.message, operations_pb2.DeadLetter)]
    if rows:
        db.execute(insert(db, dead_letters).on_conflict_do_nothing(), rows)


def write_runs(db: Connection, folds: Sequence[NewFold]) -> None:
    """The line of each run, and the slices of which its new events tell something: one statement a table."""
    lines, told, scores = [], [], []
    for (view, event_count), new in folds:
        began = _place_before(new[0]) if len(new) == event_count else ""
        lines.append({**run_row(view, event_count=event_count), "began": began})
        touched = set[str]().union(*(touched_slices(event.message) for event in new))
        if touched:
            of_run, scores_of_run = slice_rows(view, touched=touched)
            told += of_run
            scores += scores_of_run
    for table, rows in ((runs, lines), (slices, told), (slice_scores, scores)):
        if rows:
            upsert(db, table, rows, once=["began"])


def _place_before(event: StreamEvent) -> str:
    topic = event.envelope.topic
    before = {**event.cursor, topic: {**event.cursor[topic], event.partition: event.offset}}
    return encode_cursor(before)
