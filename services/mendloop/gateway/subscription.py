"""One reader's place in the event stream. Knows the feed and the log; knows neither web nor gRPC.

A reader near the end takes the feed's kept events from memory; one that is further back reads the log itself until it
has caught up. Either way it meets each event once, in order.
"""

from __future__ import annotations

from typing import Protocol

from google.protobuf.message import Message

from mendloop.bus.base import Bus
from mendloop.gateway.domain.access import Principal
from mendloop.gateway.domain.refusals import Malformed
from mendloop.gateway.feed import Entry, Feed
from mendloop.gateway.ports import Runs
from mendloop.runs.filters import EventFilter
from mendloop.runs.fold import run_of
from mendloop.runs.stream import LogReader, decode_cursor, encode_cursor

BEGINNING = encode_cursor({})
PULL_COUNT = 100
CATCH_UP_COUNT = 500
MAX_KNOWN = 10_000


class Wanted(Protocol):
    """Chooses events."""

    def matches(self, message: Message) -> bool:
        """Whether a reader gets the message."""


class OfTheirRuns:
    """What a filter wants, of the runs that exist for a principal; events without a run are of nobody."""

    def __init__(self, wanted: EventFilter, asker: Principal, runs: Runs) -> None:
        self._wanted, self._asker, self._runs = wanted, asker, runs
        self._known: dict[str, bool] = {}

    def matches(self, message: Message) -> bool:
        """Whether a reader gets the message."""
        return self._wanted.matches(message) and self._sees(run_of(message))

    def _sees(self, run_id: str) -> bool:
        """Looked up once a run: who started one never changes, but may be unknown until its request was read."""
        if run_id in self._known:
            return self._known[run_id]
        view = self._runs.view(run_id)
        started_by = view.request.requested_by if view is not None and view.request is not None else ""
        answer = self._asker.may_see(run_id, started_by=started_by)
        if started_by or answer:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[run_id] = answer
        return answer


def seen_by(asker: Principal, wanted: EventFilter, *, runs: Runs) -> Wanted:
    """What a filter wants, of what exists for who asks."""
    return wanted if asker.limits is None else OfTheirRuns(wanted, asker, runs)


class Subscription:
    """Pulls events that match a filter, from a cursor on ("" means now). Used by one thread or task at a time."""

    def __init__(self, feed: Feed, history: Bus, *, wanted: Wanted, cursor: str = "") -> None:
        self._feed, self._history, self._wanted = feed, history, wanted
        self._reader: LogReader | None = None
        self._serial = 0
        self.is_behind = False
        if not cursor:
            self._serial, self.cursor = feed.end()
            return
        self.cursor = cursor
        self._attach()

    @property
    def reads_log(self) -> bool:
        """Whether the next pull reads the log, which blocks; else it only looks into memory."""
        return self._reader is not None

    def pull(self) -> list[Entry]:
        """The next matching events; may be empty. is_behind then says whether to pull again at once."""
        if self._reader is None:
            return self._from_memory()
        return self._from_log(self._reader)

    def _from_memory(self) -> list[Entry]:
        entries = self._feed.since(self._serial, limit=PULL_COUNT)
        if entries is None:
            self._attach()
            return []
        self.is_behind = len(entries) == PULL_COUNT
        if entries:
            self._serial += len(entries)
            self.cursor = entries[-1].cursor
        return [entry for entry in entries if self._wanted.matches(entry.message)]

    def _from_log(self, reader: LogReader) -> list[Entry]:
        events, self.is_behind = reader.next(limit=CATCH_UP_COUNT)
        self.cursor = encode_cursor(reader.cursor)
        if not self.is_behind:
            self._attach(reader)
        return [Entry.of(event) for event in events if self._wanted.matches(event.message)]

    def _attach(self, reader: LogReader | None = None) -> None:
        """Go on from memory where it reaches back to our place, else from the log."""
        serial = self._feed.serial_after(self.cursor)
        if serial is not None:
            self._serial, self._reader = serial, None
            self.is_behind = True
            return
        if reader is None:
            try:
                self._reader = LogReader(self._history, cursor=decode_cursor(self.cursor))
            except ValueError as error:
                raise Malformed(str(error)) from error
            self.is_behind = True
