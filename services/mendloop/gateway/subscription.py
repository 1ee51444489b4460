"""One reader's place in the event stream. Knows the feed and the log; knows neither web nor gRPC.

A reader whose cursor the feed's memory reaches back to takes its events from there; one that is further back reads the
log itself until it is as far. Either way it meets each event once, and those of a partition in their order.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from google.protobuf.message import Message

from mendloop.bus.base import Cursor, Log, has_passed, joined
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

    def __init__(self, feed: Feed, history: Log, *, wanted: Wanted, cursor: str = "") -> None:
        self._feed, self._history, self._wanted = feed, history, wanted
        self._reader: LogReader | None = None
        self._serial: int | None = None
        self._met: Cursor | None = None
        self.is_behind = False
        self.cursor = cursor
        if not cursor:
            self._join_now()
            return
        try:
            place = decode_cursor(cursor)
        except ValueError as error:
            raise Malformed(str(error)) from error
        self._attach(place)

    @property
    def reads_log(self) -> bool:
        """Whether the next pull reads the log, which blocks; else it only looks into memory."""
        return self._reader is not None

    def pull(self) -> list[Entry]:
        """The next matching events; may be empty. is_behind then says whether to pull again at once."""
        if self._reader is not None:
            return self._from_log(self._reader)
        if self._serial is None:
            self._join_now()
            return []
        return self._from_memory(self._serial)

    def _join_now(self) -> None:
        """From the feed's end on, once there is one: while the feed reads what was before, now has not come."""
        serial, self.cursor = self._feed.end()
        self._serial = serial if self.cursor else None

    def _from_memory(self, serial: int) -> list[Entry]:
        entries = self._feed.since(serial, limit=PULL_COUNT)
        if entries is None:
            self._attach(decode_cursor(self.cursor))
            return []
        self.is_behind = len(entries) == PULL_COUNT
        self._serial = serial + len(entries)
        new = [entry for met in entries if (entry := self._unmet(met)) is not None]
        return [entry for entry in new if self._wanted.matches(entry.message)]

    def _unmet(self, entry: Entry) -> Entry | None:
        """The entry, its cursor made ours where we have passed what the feed had not when it read it; None where it
        is one of those that we have passed. Moves our place behind it."""
        if self._met is None:
            self.cursor = entry.cursor
            return entry
        is_met = entry.is_passed(self._met)
        if has_passed(entry.after, self._met):
            self._met = None
        else:
            self._met = joined(self._met, entry.after)
            entry = replace(entry, after=self._met)
        self.cursor = entry.cursor
        return None if is_met else entry

    def _from_log(self, reader: LogReader) -> list[Entry]:
        floor = self._feed.floor()
        events, is_more = reader.next(limit=CATCH_UP_COUNT)
        if not is_more:  # what of the log before the feed's memory we did not get now, the log has no more
            reader.cursor = joined(reader.cursor, floor)
        self.cursor, self.is_behind = encode_cursor(reader.cursor), True
        self._attach(reader.cursor)
        return [Entry.of(event) for event in events if self._wanted.matches(event.message)]

    def _attach(self, place: Cursor) -> None:
        """Go on from memory where it holds all that a cursor has not passed, else from the log."""
        serial = self._feed.serial_after(place)
        if serial is not None:
            self._serial, self._met, self._reader = serial, place, None
            self.is_behind = True
        elif self._reader is None:
            self._reader = LogReader(self._history, cursor=place)
            self.is_behind = True
