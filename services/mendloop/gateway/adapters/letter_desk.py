"""Gives dead letters back to who refused them, each once. Knows the table and the bus."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import Engine, select, update

from mendloop.bus.base import Bus
from mendloop.bus.dead_letters import given_back
from mendloop.core.contracts import SERVICES
from mendloop.database.engine import retryable
from mendloop.gateway.adapters.event_rows import plain
from mendloop.gateway.adapters.run_queries import letter_line
from mendloop.gateway.adapters.run_tables import dead_letters
from mendloop.gateway.domain.refusals import Conflict
from mendloop.gateway.domain.run_lines import LetterLine
from mendloop.v1 import operations_pb2


class LetterDesk:
    """One replay of a letter at a time, also over several replicas.

    A crash between publishing and the commit lets a second replay publish once more; the service's receipts make one
    effect of the two.
    """

    def __init__(self, bus: Bus, engine: Engine, *, clock: Callable[[], float] = time.time) -> None:
        self._bus, self._engine, self._clock = bus, engine, clock

    def replay(self, letter_id: str, *, by: str, reason: str) -> LetterLine | None:
        """Give the event back, unless that was done; None for an unknown letter.

        Raises Conflict where no such service is there, Retryable where database or bus are away.
        """
        mine = dead_letters.c.letter_id == letter_id
        with retryable(), self._engine.begin() as db:
            row = db.execute(select(dead_letters).where(mine).with_for_update()).first()
            if row is None or row.replayed_us:
                return letter_line(row) if row is not None else None
            if row.service not in SERVICES:
                raise Conflict(f"the letter is of {row.service[:100]!r}, which is no service here")
            self._bus.publish([given_back(operations_pb2.DeadLetter.FromString(bytes(row.letter)))])
            told = {"replayed_us": int(self._clock() * 1e6), "replayed_by": plain(by), "replay_reason": plain(reason)}
            db.execute(update(dead_letters).where(mine).values(told))
            return letter_line(db.execute(select(dead_letters).where(mine)).one())
