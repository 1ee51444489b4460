"""The place of a reader in the event stream: lines become events, and a broken connection goes on where it ended.

Does no I/O. Server-sent events after the WHATWG's HTML standard, as far as the gateway writes them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from mendloop.client.calls import Request
from mendloop.client.errors import ApiError, NotReady, ServerError, Unreachable
from mendloop.client.results import Event
from mendloop.client.talking import LONGEST_WAIT_S, wait_after

TYPE_PREFIX = "mendloop.v1."
SILENCE_S = 60.0
"""Longest silence of a living stream: the gateway says something every 15 s."""


class Place:
    """Where a reader stands. Take request() for each connection, feed() what arrives, and ended() when it breaks."""

    def __init__(self, first: Request) -> None:
        self._first, self.cursor = first, ""
        self._failures, self._rest = 0, b""
        self._reset()

    def request(self) -> Request:
        """The request of the next connection."""
        self._reset()
        self._rest = b""
        if not self.cursor:
            return self._first
        params = [(name, value) for name, value in self._first.params if name != "from"]
        headers = {**self._first.headers, "last-event-id": self.cursor}
        return Request(self._first.method, self._first.path, params, headers)

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The next bytes; gives the events that they complete. Lines end with a line feed and with nothing else: JSON
        may hold what Unicode counts as a line's end."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            yield from self._line(line.removesuffix(b"\r").decode())

    def _line(self, line: str) -> Iterator[Event]:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line and name == "id":
            self._id = value
        elif line and name == "event":
            self._type = value
        elif line and name == "data":
            self._data.append(value)
        elif not line:
            yield from self._block()

    def ended(self, error: Exception | None = None) -> float:
        """Seconds to wait before the next connection. Raises what a new connection would not help."""
        if isinstance(error, ApiError) and not isinstance(error, NotReady | ServerError):
            raise error
        if error is not None and not isinstance(error, ApiError | Unreachable):
            raise error
        self._failures += 1
        asks = error.retry_after_s if isinstance(error, ApiError) else None
        return wait_after(self._failures) if asks is None else min(asks, LONGEST_WAIT_S)

    def _block(self) -> Iterator[Event]:
        """The end of a block: its id counts only now, so that a block that was cut is sent again."""
        data, cursor, kind = "\n".join(self._data), self._id, self._type
        self._reset()
        if cursor:
            self.cursor, self._failures = cursor, 0
        if data:
            document = json.loads(data)
            yield Event(self.cursor, kind.removeprefix(TYPE_PREFIX), document["headers"], document["message"])

    def _reset(self) -> None:
        self._id, self._type = "", ""
        self._data: list[str] = []
