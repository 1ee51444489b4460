"""The round of one hook: its events, one after another, each until it is done with. Knows no other hook."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import urlsplit

from anyio import CapacityLimiter, to_thread

from mendloop.bus.base import Log
from mendloop.core.telemetry import Telemetry
from mendloop.gateway.adapters.hook_journal import Journal
from mendloop.gateway.adapters.hook_payloads import Letter, letter_of, made_at
from mendloop.gateway.adapters.hook_sending import Sender
from mendloop.gateway.domain.hooks import Answer, Attempt, Hook, after, judge
from mendloop.gateway.domain.signing import signing_headers
from mendloop.gateway.feed import Entry, Feed
from mendloop.gateway.subscription import Subscription
from mendloop.runs.filters import EventFilter
from mendloop.runs.fold import run_of

log = logging.getLogger(__name__)
USER_AGENT = "mendloop-webhook/1"


@dataclass(frozen=True, slots=True)
class Rules:
    """How long an event is tried, and where people reach the gateway (for links; may be empty)."""

    retry_for_s: float = 24 * 3600.0
    public_url: str = ""


@dataclass(frozen=True, slots=True)
class Means:
    """What all rounds share. spread gives 0 to 1; moved is the event that the next move of the feed sets."""

    feed: Feed
    history: Log
    make_sender: Callable[[], Sender]
    journal: Journal
    telemetry: Telemetry
    rules: Rules
    limiter: CapacityLimiter
    moved: Callable[[], asyncio.Event]
    clock: Callable[[], float]
    spread: Callable[[], float]


def wanted_by(hook: Hook) -> EventFilter:
    """The filter of a hook. Raises ValueError for names that this version does not know."""
    wanted = hook.wanted
    return EventFilter.of(runs=wanted.runs, types=wanted.types, causes=wanted.causes, slices=wanted.slices)


async def post(sender: Sender, hook: Hook, letter: Letter, *, now: float) -> Answer:
    """One try of one letter, signed."""
    headers = {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        **signing_headers(hook.secrets, event_id=letter.event_id, timestamp=int(now), body=letter.body, now=now),
    }
    return await sender.post(hook.url, body=letter.body, headers=headers)


class Round:
    """Delivers one hook, in the version that was loaded, until it is told to stop, disabled, or its lease is over."""

    def __init__(self, hook: Hook, means: Means, *, holds: Callable[[], bool]) -> None:
        self.hook, self._means, self._holds = hook, means, holds
        self._progress = hook.progress
        self._not_before = datetime.fromisoformat(hook.progress.not_before) if hook.progress.not_before else None
        self._stop = asyncio.Event()
        self._sender = means.make_sender()

    def stop(self) -> None:
        """End after the try at work."""
        self._stop.set()

    async def run(self) -> None:
        """Deliver."""
        try:
            await self._run()
        finally:
            await self._sender.close()

    async def _run(self) -> None:
        subscription = Subscription(
            self._means.feed, self._means.history, wanted=wanted_by(self.hook), cursor=self._progress.cursor
        )
        while self._goes_on():
            moved = self._means.moved()  # taken before the pull, so that no move between the two is missed
            if subscription.reads_log:
                entries = await to_thread.run_sync(subscription.pull, limiter=self._means.limiter)
            else:
                entries = subscription.pull()
            for entry in entries:
                if self._is_too_old(entry):
                    continue
                is_done = await self._deliver(entry)
                if not is_done or not self._goes_on():
                    return
            self._move(subscription)
            if not entries and not subscription.is_behind:
                await self._either(moved.wait())

    def _goes_on(self) -> bool:
        return self._progress.is_enabled and not self._stop.is_set() and self._holds()

    def _is_too_old(self, entry: Entry) -> bool:
        """Whether a replay from a time leaves the event out; one without a readable time is not left out."""
        at = made_at(entry.envelope)
        return self._not_before is not None and at is not None and at < self._not_before

    def _move(self, subscription: Subscription) -> None:
        has_caught_up = not subscription.reads_log and not subscription.is_behind
        if has_caught_up:
            self._not_before = None
        not_before = "" if has_caught_up else self._progress.not_before
        if (subscription.cursor, not_before) != (self._progress.cursor, self._progress.not_before):
            self._progress = replace(self._progress, cursor=subscription.cursor, not_before=not_before)
            self._means.journal.note(self.hook, self._progress)

    async def _deliver(self, entry: Entry) -> bool:
        """Try an event until it is done with, the hook is disabled, or we stop; whether it is done with."""
        means = self._means
        view = means.feed.runs.view(run_of(entry.message)) if self.hook.format == "slack" else None
        letter = letter_of(entry, format=self.hook.format, public_url=means.rules.public_url, view=view)
        is_done = False
        while not is_done:
            await self._until_due()
            await means.journal.room()
            if not self._goes_on():
                return False
            at = means.clock()
            answer = await post(self._sender, self.hook, letter, now=at)
            is_done = self._note(letter, answer, cursor=entry.cursor, at=at)
        return True

    async def _until_due(self) -> None:
        wait_s = self._progress.next_attempt_at - self._means.clock()
        if wait_s > 0:
            await self._either(asyncio.sleep(wait_s))

    async def _either(self, waited: Coroutine[object, object, object]) -> None:
        """Wait for something, or for the order to stop."""
        tasks: set[asyncio.Task[object]] = {asyncio.create_task(self._stop.wait()), asyncio.create_task(waited)}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    def _note(self, letter: Letter, answer: Answer, *, cursor: str, at: float) -> bool:
        """Count and write what an answer changes; whether the event is done with."""
        means, before = self._means, self._progress
        now = means.clock()
        self._progress = after(
            before, answer, cursor=cursor, now=now, spread=means.spread(), retry_for_s=means.rules.retry_for_s
        )
        result = judge(answer)
        attempt = Attempt(
            self.hook.hook_id, letter.event_id, letter.event_type, letter.run_id, at, before.attempt + 1, result, answer
        )
        means.journal.note(self.hook, self._progress, attempt=attempt)
        means.telemetry.add("mendloop_webhook_attempts", result=result)
        if result == "delivered" and letter.at is not None:
            means.telemetry.observe("mendloop_webhook_delay_seconds", max(0.0, now - letter.at.timestamp()))
        if not self._progress.is_enabled:
            self._alert(result)
        return result != "retry"

    def _alert(self, result: str) -> None:
        """Tell a person; the URL may be a secret itself, so only its host is named."""
        self._means.telemetry.add("mendloop_webhooks_disabled", reason=result)
        log.error(
            "webhook disabled",
            extra={
                "webhook_id": self.hook.hook_id,
                "host": urlsplit(self.hook.url).hostname,
                "reason": self._progress.disabled_reason,
            },
        )
