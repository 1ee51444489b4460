"""What the loop's metrics need of the database: views of the runs that go on, and what became of verdicts.

Views are folded once: the run book's cache is asked first, and what another replica wrote is added to what is held.
One thread asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Engine, or_, select

from mendloop.database.engine import reading, retryable
from mendloop.gateway.adapters.event_rows import micros
from mendloop.gateway.adapters.judgement import read_cases, read_regressed_count
from mendloop.gateway.adapters.run_tables import runs
from mendloop.gateway.adapters.stored_views import fold_stored
from mendloop.gateway.adapters.view_cache import Folded, ViewCache
from mendloop.runs.loop_metrics import Judgement
from mendloop.runs.model import RunView


class RunFigures:
    """Reads what a run book wrote, and shares its cache. Every method raises Retryable where the database is away."""

    def __init__(self, engine: Engine, cache: ViewCache) -> None:
        self._engine, self._cache = reading(engine), cache
        self._held: dict[str, Folded] = {}

    def views(self, *, ended_after: datetime) -> Sequence[RunView]:
        """Views of all runs that go on or ended after a time."""
        wanted = select(runs.c.run_id, runs.c.event_count, runs.c.facts).where(
            or_(runs.c.finished_us == 0, runs.c.finished_us > micros(ended_after))
        )
        with retryable(), self._engine.begin() as db:
            found: dict[str, Folded] = {}
            for row in db.execute(wanted).all():
                held = self._newest(row.run_id)
                if held is None or held.event_count < row.event_count:
                    held = fold_stored(db, row.run_id, event_count=row.event_count, facts=row.facts, held=held)
                found[row.run_id] = held
        self._held = found
        return [folded.view for folded in found.values()]

    def judgement(self) -> Judgement:
        """The newest verdicts that were acted on, and how many slices of promoted checkpoints are worse."""
        with retryable(), self._engine.begin() as db:
            return Judgement(read_cases(db), read_regressed_count(db))

    def _newest(self, run_id: str) -> Folded | None:
        both = [folded for folded in (self._held.get(run_id), self._cache.peek(run_id)) if folded is not None]
        return max(both, key=lambda folded: folded.event_count, default=None)
