"""Pages of the log for readers that are further back than the feed's memory: read once for all that stand at one place.

After a long outage hundreds of readers may come back at once, and Kafka's reader seeks for each of them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from mendloop.bus.base import Cursor, Delivery, Log
from mendloop.runs.stream import encode_cursor

KEEP_PAGES = 16
"""About 10 MB with the pages of a subscription and events of 1 KB."""


class SharedPages:
    """A log of which the newest full pages are kept; readers that begin at one place go on over the same places.

    A full page stays a right answer: what was committed since comes after it, or at a place that it does not pass.
    """

    def __init__(self, log: Log) -> None:
        self._log, self._lock = log, threading.Lock()
        self._pages: OrderedDict[tuple[str, int, tuple[str, ...]], list[Delivery]] = OrderedDict()

    def read(self, topics: Sequence[str], *, cursor: Cursor | None = None, limit: int = 1000) -> list[Delivery]:
        """Committed events from the cursor on, at most limit. One read at a time; whoever waits may find its page."""
        key = (encode_cursor(cursor or {}), limit, tuple(topics))
        with self._lock:
            if key in self._pages:
                self._pages.move_to_end(key)
                return self._pages[key]
            page = self._log.read(topics, cursor=cursor, limit=limit)
            if len(page) == limit:
                self._pages[key] = page
            if len(self._pages) > KEEP_PAGES:
                self._pages.popitem(last=False)
            return page
