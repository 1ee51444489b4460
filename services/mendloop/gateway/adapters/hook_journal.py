"""What deliveries write, gathered: all hooks together are one transaction as often as the database takes one.

A delivery does not wait for its own commit, so that fifty hooks cost one commit and not fifty. What a crash loses is
delivered again with the same webhook-id. Belongs to one event loop; the database is asked in threads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from anyio import to_thread

from mendloop.core.errors import Retryable
from mendloop.gateway.adapters.hook_store import HookStore
from mendloop.gateway.domain.hooks import Attempt, Hook, Progress

log = logging.getLogger(__name__)
MAX_UNWRITTEN = 2_000
RETRY_S = 1.0


class Journal:
    """Progress and attempts that wait to be written. lost is called with the hooks that are not ours any more."""

    def __init__(self, store: HookStore, *, owner: str, lost: Callable[[set[str]], None]) -> None:
        self._store, self._owner, self._lost = store, owner, lost
        self._progress: dict[tuple[str, int], Progress] = {}
        self._attempts: list[Attempt] = []
        self._is_due, self._has_room = asyncio.Event(), asyncio.Event()
        self._has_room.set()
        self._writing = asyncio.Lock()

    def note(self, hook: Hook, progress: Progress, *, attempt: Attempt | None = None) -> None:
        """Write this soon; without an attempt only the place moved, which the next write takes along."""
        self._progress[hook.hook_id, hook.version] = progress
        if attempt is None:
            return
        self._attempts.append(attempt)
        self._is_due.set()
        if len(self._attempts) >= MAX_UNWRITTEN:
            self._has_room.clear()

    async def room(self) -> None:
        """Wait while too much is unwritten: a database that is away stops deliveries, not the memory."""
        await self._has_room.wait()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._is_due.wait()
            if not await self.flush():
                await asyncio.sleep(RETRY_S)

    async def flush(self) -> bool:
        """Write what waits now; False where the database did not take it, then it waits on."""
        async with self._writing:
            progress, attempts = dict(self._progress), list(self._attempts)
            self._is_due.clear()
            if not progress and not attempts:
                return True
            try:
                lost = await to_thread.run_sync(
                    lambda: self._store.write(self._owner, progress=progress, tried=attempts)
                )
            except Retryable as error:
                log.warning("deliveries are not written; trying again", extra={"reason": str(error)})
                self._is_due.set()
                return False
            del self._attempts[: len(attempts)]
            for key, at in progress.items():
                if self._progress.get(key) is at:
                    del self._progress[key]
            self._has_room.set()
        if lost:
            self._lost(lost)
        return True
