"""Views of runs from what is written of them. Knows rows and folds; holds nothing."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, select

from mendloop.gateway.adapters.event_rows import event_of
from mendloop.gateway.adapters.run_rows import facts_of
from mendloop.gateway.adapters.run_tables import events
from mendloop.gateway.adapters.view_cache import Folded
from mendloop.runs.fold import fold_message
from mendloop.runs.model import RunView


def fold_stored(db: Connection, run_id: str, *, event_count: int, facts: str, held: Folded | None) -> Folded:
    """The fold of the run's event_count written events. It goes on from what is held: a fold of n events is one of
    the first n that were written, so that events which another replica wrote cost no fold of those before them."""
    if held is None or held.event_count > event_count:
        held = Folded(RunView(run_id), 0)
    view, count = held
    if count < event_count:
        rest = select(events).where(events.c.run_id == run_id).order_by(events.c.serial).offset(count)
        for row in db.execute(rest):
            view, count = fold_message(view, *event_of(row)), count + 1
    return Folded(replace(view, recipe=facts_of(facts)), count)
