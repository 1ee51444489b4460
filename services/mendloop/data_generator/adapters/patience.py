"""Patience with a source that hangs: it works in a thread, and is left where it yields nothing for too long."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from mendloop.core.records import Example
from mendloop.core.tasks import Conditions
from mendloop.data_generator.ports import Rejected, Source, SourceGaveUp

AHEAD = 256
POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class _Handoff:
    queue: queue.Queue[Example | Rejected | _End] = field(default_factory=lambda: queue.Queue(AHEAD))
    is_closed: threading.Event = field(default_factory=threading.Event)

    def offer(self, thing: Example | Rejected | _End) -> bool:
        """Hand over; False where nobody listens any more."""
        while not self.is_closed.is_set():
            try:
                self.queue.put(thing, timeout=POLL_S)
            except queue.Full:
                continue
            return True
        return False


class PatientSource:
    """A source whose every candidate comes within a time, or it is given up on.

    Python cannot stop a thread: one that hangs for good stays behind, as a daemon, until the service restarts.
    """

    def __init__(self, source: Source, *, stall_s: float) -> None:
        self._source, self._stall_s = source, stall_s

    @property
    def name(self) -> str:
        """The name of the source within."""
        return self._source.name

    @property
    def is_curriculum(self) -> bool:
        """As the source within."""
        return self._source.is_curriculum

    def candidates(self, conditions: Conditions, *, seed: int) -> Iterator[Example | Rejected]:
        """The candidates of the source within. Raises SourceGaveUp where none comes for stall_s seconds."""
        handoff = _Handoff()
        threading.Thread(
            target=self._produce, args=(handoff, conditions, seed), name=f"source {self.name}", daemon=True
        ).start()
        try:
            while True:
                thing = self._next(handoff)
                if isinstance(thing, Example | Rejected):
                    yield thing
                elif thing.error is not None:
                    raise thing.error
                else:
                    return
        finally:
            handoff.is_closed.set()

    def _next(self, handoff: _Handoff) -> Example | Rejected | _End:
        try:
            return handoff.queue.get(timeout=self._stall_s)
        except queue.Empty:
            raise SourceGaveUp(f"{self.name} gave no candidate for {self._stall_s:g} s") from None

    def _produce(self, handoff: _Handoff, conditions: Conditions, seed: int) -> None:
        try:
            for example in self._source.candidates(conditions, seed=seed):
                if not handoff.offer(example):
                    return
            handoff.offer(_End())
        except BaseException as error:  # raised again where the candidates are read
            handoff.offer(_End(error))
