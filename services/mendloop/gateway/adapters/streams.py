"""Event streams: a subscription step by step, and as text/event-stream. Knows one event loop; all is pulled.

Each stream has at most one chunk under way. One that takes none for STALL_S is given up; no other stream notices.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from anyio import CapacityLimiter, to_thread
from fastapi.responses import StreamingResponse
from starlette.types import Send

from mendloop.gateway.adapters.entrance import StillValid
from mendloop.gateway.domain.refusals import Busy
from mendloop.gateway.feed import Entry, Feed
from mendloop.gateway.subscription import Subscription

log = logging.getLogger(__name__)
MEDIA_TYPE = "text/event-stream"
CATCHING_UP_AT_ONCE = 4
STALL_S = 60.0
RECHECK_S = 10.0
"""How often a reader's credential is looked at again; at the latest it ends with the keep-alive after that."""
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@dataclass(frozen=True, slots=True)
class Step:
    """Events to send; without any, a sign of life, and the stream's place where that moved."""

    entries: list[Entry]
    moved_to: str = ""


class Streams:
    """All streams of one event loop: wakes them together when the feed moves, and bounds how many there are."""

    def __init__(self, feed: Feed, *, max_streams: int, keep_alive_s: float) -> None:
        self._feed, self._max_streams, self._keep_alive_s = feed, max_streams, keep_alive_s
        self._moved = asyncio.Event()
        self._limiter = CapacityLimiter(CATCHING_UP_AT_ONCE)
        self._leave: Callable[[], None] = lambda: None
        self.open_count = 0

    def start(self) -> None:
        """Begin to listen to the feed; call it in the event loop."""
        loop = asyncio.get_running_loop()
        self._leave = self._feed.watch(lambda: loop.call_soon_threadsafe(self._move))

    def stop(self) -> None:
        """Stop listening."""
        self._leave()

    def response(self, subscription: Subscription, *, is_still_valid: StillValid) -> StreamingResponse:
        """The stream of a subscription, while its reader's credential is good. Raises Busy where there are too many."""
        self.check_room()
        return _Stream(self._chunks(subscription, is_still_valid), media_type=MEDIA_TYPE, headers=_HEADERS)

    def check_room(self) -> None:
        """Raises Busy where there are too many streams."""
        if self.open_count >= self._max_streams:
            raise Busy(f"{self.open_count} event streams are open, which is the most; try again later")

    def _move(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def _chunks(self, subscription: Subscription, is_still_valid: StillValid) -> AsyncIterator[str]:
        yield f"retry: 1000\nid: {subscription.cursor}\n\n"
        async with aclosing(self.steps(subscription, is_still_valid=is_still_valid)) as steps:
            async for step in steps:
                if step.entries:
                    yield "".join(map(frame, step.entries))
                else:
                    # The place of a stream whose filter matches little moves too; an id without data is no event.
                    place = f"id: {step.moved_to}\n" if step.moved_to else ""
                    yield f": keep-alive\n{place}\n"

    async def steps(self, subscription: Subscription, *, is_still_valid: StillValid) -> AsyncGenerator[Step]:
        """What a stream sends, until the gateway goes down or its reader's credential is worth nothing.

        The next step is made when the one before was taken.
        """
        self.open_count += 1
        try:
            told, checked_at = subscription.cursor, time.monotonic()
            while not self._feed.is_stopping:
                if time.monotonic() - checked_at >= RECHECK_S:
                    checked_at = time.monotonic()
                    if not await is_still_valid():
                        return
                moved = self._moved  # taken before the pull, so that no move between the two is missed
                if subscription.reads_log:
                    entries = await to_thread.run_sync(subscription.pull, limiter=self._limiter)
                else:
                    entries = subscription.pull()
                if entries:
                    told = entries[-1].cursor
                    yield Step(entries)
                elif not subscription.is_behind and not await self._wait(moved):
                    moved_to = "" if told == subscription.cursor else subscription.cursor
                    told = subscription.cursor
                    yield Step([], moved_to)
        finally:
            self.open_count -= 1

    async def _wait(self, moved: asyncio.Event) -> bool:
        try:
            async with asyncio.timeout(self._keep_alive_s):
                await moved.wait()
        except TimeoutError:
            return False
        return True


def frame(entry: Entry) -> str:
    """One event as the standard (WHATWG HTML, server-sent events) writes it. Its data is one line."""
    return f"id: {entry.cursor}\nevent: {entry.envelope.event_type}\ndata: {entry.data}\n\n"


class _Stream(StreamingResponse):
    async def stream_response(self, send: Send) -> None:
        async def send_in_time(message: object) -> None:
            async with asyncio.timeout(STALL_S):
                await send(message)  # type: ignore[arg-type]

        try:
            await super().stream_response(send_in_time)
        except TimeoutError:
            log.warning("a stream took nothing and was given up", extra={"stall_s": STALL_S})
