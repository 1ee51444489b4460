"""Whether the database was written from the log that is followed now: a cursor of one log means nothing in another."""

from __future__ import annotations

from sqlalchemy import Engine, select

from mendloop.bus.base import Bus, Cursor
from mendloop.core.errors import InvalidRecipe
from mendloop.database.engine import reading, retryable
from mendloop.gateway.adapters.run_tables import events


def require_same_log(engine: Engine, bus: Bus, *, cursor: Cursor, is_log_whole: bool) -> None:
    """Looks for the event that was written last in its place in the log.

    is_log_whole says that the log forgets nothing: then the event must be there; else it may be gone, but no other may
    stand in its place. Raises InvalidRecipe where the log is another one.
    """
    columns = (events.c.topic, events.c.part, events.c.pos, events.c.event_id)
    with retryable(), reading(engine).begin() as db:
        last = db.execute(select(*columns).order_by(events.c.serial.desc()).limit(1)).first()
    if last is None:
        return
    beside = {last.topic: {**cursor.get(last.topic, {}), last.part: last.pos}}
    found = bus.read([last.topic], cursor=beside, limit=100)
    here = [event for event in found if (event.partition, event.offset) == (last.part, last.pos)]
    if any(event.envelope.event_id != last.event_id for event in here) or (is_log_whole and not here):
        raise InvalidRecipe(
            f"MENDLOOP_DATABASE_URL was written from another log: event {last.event_id[:12]!r} is not at {last.topic}"
            f"/{last.part}/{last.pos}; give the gateway a new database, it is filled from the log"
        )
