"""The courier: one thread with an event loop of its own that delivers all webhooks whose lease this replica holds.

Each hook has a round of its own and at most one request at a time, so a receiver that is slow or dead holds up nobody
else, and there are never more requests than hooks. Leases are renewed every RENEW_S and end after LEASE_S; replicas'
clocks must agree within MARGIN_S.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass

from anyio import CapacityLimiter, to_thread

from mendloop.bus.base import Log
from mendloop.core.errors import MendloopError, Retryable
from mendloop.core.telemetry import Telemetry
from mendloop.gateway.adapters.hook_journal import Journal
from mendloop.gateway.adapters.hook_round import Means, Round, Rules
from mendloop.gateway.adapters.hook_sending import Sender
from mendloop.gateway.adapters.hook_store import HookStore
from mendloop.gateway.feed import Feed

log = logging.getLogger(__name__)
LEASE_S, RENEW_S, MARGIN_S = 15.0, 4.0, 3.0
STOP_GRACE_S = 4.0
CATCHING_UP_AT_ONCE = 4


@dataclass(slots=True)
class _Working:
    version: int
    round: Round
    task: asyncio.Task[None]


class Courier:
    """Starts and stops with the gateway. make_sender is called for each round, in the courier's own event loop:
    a pool that all hooks share would look at every connection for every request."""

    def __init__(
        self,
        store: HookStore,
        *,
        feed: Feed,
        history: Log,
        make_sender: Callable[[], Sender],
        telemetry: Telemetry,
        rules: Rules = Rules(),
        owner: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._feed, self._history = store, feed, history
        self._make_sender, self._telemetry, self._rules, self._clock = make_sender, telemetry, rules, clock
        self.owner = owner or f"gateway-{secrets.token_hex(6)}"
        self._working: dict[str, _Working] = {}
        self._held_until = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def wake(self) -> None:
        """A hook was changed: look at once."""
        self._call(lambda: self._changed.set())

    def stop(self) -> None:
        """End: tries at work get STOP_GRACE_S, what was delivered is written, leases go back."""
        self._is_stopping.set()
        self.wake()
        if self._thread.is_alive():
            self._thread.join(timeout=STOP_GRACE_S + 10)

    def _call(self, work: Callable[[], object]) -> None:
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop ended meanwhile
                loop.call_soon_threadsafe(work)

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._changed, self._moved = asyncio.Event(), asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._journal = Journal(self._store, owner=self.owner, lost=self._let_go)
        self._means = Means(
            self._feed,
            self._history,
            self._make_sender,
            self._journal,
            self._telemetry,
            self._rules,
            CapacityLimiter(CATCHING_UP_AT_ONCE),
            lambda: self._moved,
            self._clock,
            random.random,
        )
        leave = self._feed.watch(lambda: self._call(self._move))
        writing = asyncio.create_task(self._journal.run())
        try:
            while not self._is_stopping.is_set():
                self._changed.clear()
                await self._tend()
                with suppress(TimeoutError):
                    async with asyncio.timeout(RENEW_S):
                        await self._changed.wait()
        finally:
            leave()
            await self._end(writing)

    def _move(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def _tend(self) -> None:
        """Renew leases; begin rounds of hooks that are ours, end those that are not or were changed."""
        now = self._clock()
        try:
            counts = await to_thread.run_sync(self._store.counts)
            held = await to_thread.run_sync(lambda: self._lease(now)) if any(counts[:2]) else {}
            self._held_until = now + LEASE_S - MARGIN_S
        except Retryable as error:
            log.warning("webhook leases are not renewed; trying again", extra={"reason": str(error)})
            return
        for state, count in zip(("delivering", "failing", "disabled"), counts, strict=True):
            self._telemetry.set("mendloop_webhooks", count, state=state)
        for hook_id, working in list(self._working.items()):
            if working.task.done():
                del self._working[hook_id]
            elif held.get(hook_id) != working.version:
                working.round.stop()
        if not self._feed.is_current:
            return
        for hook_id in held.keys() - self._working.keys():
            await self._begin(hook_id)

    def _lease(self, now: float) -> dict[str, int]:
        return self._store.lease(self.owner, now=now, until=now + LEASE_S)

    async def _begin(self, hook_id: str) -> None:
        """Begin where the round before ended, which the database has to know first."""
        if not await self._journal.flush():
            return
        try:
            hook = await to_thread.run_sync(lambda: self._store.find(hook_id))
        except MendloopError as error:
            log.error("webhook cannot be read", extra={"webhook_id": hook_id, "reason": str(error)})
            return
        if hook is None or not hook.progress.is_enabled:
            return
        round_ = Round(hook, self._means, holds=lambda: self._clock() < self._held_until)
        task = asyncio.create_task(self._guarded(hook_id, round_.run()))
        task.add_done_callback(lambda _: self._changed.set())
        self._working[hook_id] = _Working(hook.version, round_, task)

    async def _guarded(self, hook_id: str, work: Coroutine[object, object, None]) -> None:
        """A round that breaks is begun again with the next look, and says so."""
        try:
            await work
        except Exception as error:
            log.error("a webhook's round broke", exc_info=error, extra={"webhook_id": hook_id})
            await asyncio.sleep(RENEW_S)

    def _let_go(self, hook_ids: set[str]) -> None:
        """A write found that hooks were changed or went to another replica."""
        for hook_id in hook_ids & self._working.keys():
            self._working[hook_id].round.stop()
        self._changed.set()

    async def _end(self, writing: asyncio.Task[None]) -> None:
        for working in self._working.values():
            working.round.stop()
        tasks = [working.task for working in self._working.values()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=STOP_GRACE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        writing.cancel()
        if await self._journal.flush():
            with suppress(Retryable):
                await to_thread.run_sync(lambda: self._store.release(self.owner))
