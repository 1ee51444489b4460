"""What people do with webhooks: create, look, change, enable, rotate, replay, test. Knows no web framework."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from mendloop.core.telemetry import Telemetry
from mendloop.gateway.adapters.hook_payloads import test_letter
from mendloop.gateway.adapters.hook_requests import Creation, place_of, wrong_url
from mendloop.gateway.adapters.hook_round import post, wanted_by
from mendloop.gateway.adapters.hook_sending import AddressNotAllowed, Gate, Sender
from mendloop.gateway.adapters.hook_store import HookStore
from mendloop.gateway.domain import hooks as rules
from mendloop.gateway.domain.hooks import Attempt, Format, Hook, Progress, Secret, Wanted, judge
from mendloop.gateway.domain.refusals import Busy, Conflict, Fault, Invalid, KeyReused, Unknown
from mendloop.gateway.domain.signing import SECRET_BYTES, rotated, secret_text
from mendloop.gateway.feed import Feed
from mendloop.gateway.subscription import BEGINNING
from mendloop.runs.stream import decode_cursor

TESTS_AT_ONCE = 4
CURRENT_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How many hooks there may be, and whether they may go to http."""

    hook_count: int = 500
    allows_http: bool = False


class HookDesk:
    """The webhooks of a deployment. wake tells the courier of this replica; others look within seconds."""

    def __init__(
        self,
        store: HookStore,
        *,
        feed: Feed,
        gate: Gate,
        sender: Sender,
        telemetry: Telemetry,
        limits: Limits,
        wake: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._feed, self._gate, self._sender = store, feed, gate, sender
        self._telemetry, self._limits, self._wake, self._clock = telemetry, limits, wake, clock
        self._testing = asyncio.Semaphore(TESTS_AT_ONCE)

    async def check_url(self, url: str) -> None:
        """Raises Invalid for a URL that webhooks may not go to. Each connection checks the host again."""
        host, port = place_of(url, allows_http=self._limits.allows_http)
        try:
            await self._gate.addresses(host, port)
        except AddressNotAllowed as error:
            raise wrong_url(str(error)) from error
        except (OSError, TimeoutError, UnicodeError) as error:
            raise wrong_url("the host's name cannot be resolved") from error

    def created(self, request: Creation) -> Hook | None:
        """The hook that the same request made before; None for a new one. Raises KeyReused where the key was used
        for another request."""
        if not request.key:
            return None
        known = self._store.find(request.hook_id)
        return None if known is None else _same_request(known, request)

    def create(self, request: Creation) -> Hook:
        """A new hook, its url checked before; it gets what is committed from now on. The same request with a key again
        gives the same hook. Raises Invalid, Busy, Conflict, KeyReused."""
        if not self._feed.wait_current(timeout_s=CURRENT_WITHIN_S):
            raise Busy("the log is still being read; try again in some seconds")
        now = self._clock()
        hook = Hook(
            hook_id=request.hook_id,
            url=request.url,
            description=request.description,
            format=request.format,
            wanted=request.wanted,
            secrets=(Secret(secret_text(secrets.token_bytes(SECRET_BYTES))),),
            created_at=now,
            updated_at=now,
            progress=Progress(self._feed.end()[1]),
            request_digest=request.digest,
        )
        _check_wanted(hook)
        stands = self._store.add(hook, limit=self._limits.hook_count)
        if stands is None:
            raise Conflict(f"there are {self._limits.hook_count} webhooks, which is the most; delete one first")
        self._wake()
        return _same_request(stands, request)

    def get(self, hook_id: str) -> Hook:
        """A hook. Raises Unknown."""
        return _found(self._store.find(hook_id), hook_id)

    def page(self, *, after: str, limit: int) -> tuple[list[Hook], str]:
        """Hooks by id, and the cursor of the next page (empty on the last)."""
        found = self._store.page(after=after, limit=limit + 1)
        return found[:limit], found[limit - 1].hook_id if len(found) > limit else ""

    def update(
        self,
        hook_id: str,
        *,
        url: str | None = None,
        description: str | None = None,
        format: Format | None = None,
        wanted: Wanted | None = None,
    ) -> Hook:
        """Change what is given; the place in the log stays. Raises Unknown or Invalid."""

        def edit(hook: Hook) -> Hook:
            changed = replace(
                hook,
                url=hook.url if url is None else url,
                description=hook.description if description is None else description,
                format=hook.format if format is None else format,
                wanted=hook.wanted if wanted is None else wanted,
            )
            _check_wanted(changed)
            return changed

        return self._change(hook_id, edit)

    def remove(self, hook_id: str) -> None:
        """Delete a hook and its log. Raises Unknown."""
        if not self._store.remove(hook_id):
            raise _unknown(hook_id)
        self._wake()

    def enable(self, hook_id: str) -> Hook:
        """Let a hook go on where it stopped, at once. Raises Unknown."""
        return self._change(hook_id, lambda hook: replace(hook, progress=rules.enabled_again(hook.progress)))

    def disable(self, hook_id: str, *, reason: str) -> Hook:
        """Stop a hook; its place stays. Raises Unknown."""
        said = reason or "disabled by a person"
        return self._change(hook_id, lambda hook: replace(hook, progress=rules.disabled(hook.progress, reason=said)))

    def rotate(self, hook_id: str, *, overlap_s: float) -> tuple[Hook, str]:
        """A new secret; those before it sign too until the overlap is over. Raises Unknown."""
        fresh = secret_text(secrets.token_bytes(SECRET_BYTES))

        def edit(hook: Hook) -> Hook:
            return replace(hook, secrets=rotated(hook.secrets, fresh=fresh, now=self._clock(), overlap_s=overlap_s))

        return self._change(hook_id, edit), fresh

    def replay(self, hook_id: str, *, start: str) -> Hook:
        """Deliver again from a time (ISO 8601) or from behind a cursor. Raises Unknown or Invalid."""
        cursor, not_before = self._start(start)
        return self._change(
            hook_id,
            lambda hook: replace(hook, progress=rules.rewound(hook.progress, cursor=cursor, not_before=not_before)),
        )

    def attempts(self, hook_id: str, *, before: int | None, limit: int) -> tuple[list[Attempt], str]:
        """The log of a hook, newest first, and the cursor of the next page. Raises Unknown."""
        self.get(hook_id)
        found = self._store.attempts(hook_id, before=before, limit=limit + 1)
        return [attempt for _, attempt in found[:limit]], str(found[limit - 1][0]) if len(found) > limit else ""

    async def test(self, hook: Hook) -> Attempt:
        """Send a test event at once, to a disabled hook too, and say what came of it. Raises Busy."""
        if self._testing.locked():
            raise Busy(f"{TESTS_AT_ONCE} webhooks are being tested; try again in some seconds")
        async with self._testing:
            now = self._clock()
            letter = test_letter(hook, event_id=f"test_{secrets.token_hex(12)}", now=datetime.fromtimestamp(now, UTC))
            answer = await post(self._sender, hook, letter, now=now)
        result = judge(answer)
        self._telemetry.add("mendloop_webhook_attempts", result=result)
        return Attempt(hook.hook_id, letter.event_id, letter.event_type, "", now, 1, result, answer, True)

    def record(self, attempt: Attempt) -> None:
        """Put a test into the log."""
        self._store.write("", progress={}, tried=[attempt])

    def _change(self, hook_id: str, edit: Callable[[Hook], Hook]) -> Hook:
        changed = self._store.change(hook_id, lambda hook: replace(edit(hook), updated_at=self._clock()))
        self._wake()
        return _found(changed, hook_id)

    def _start(self, start: str) -> tuple[str, str]:
        """The cursor to begin at, and the time before which events are left out."""
        try:
            at = datetime.fromisoformat(start)
        except ValueError:
            return _checked_cursor(start), ""
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return BEGINNING, at.isoformat()


def _same_request(hook: Hook, request: Creation) -> Hook:
    if hook.request_digest != request.digest:
        raise KeyReused(
            f"the idempotency key was used for another webhook, {hook.hook_id}; ask for the same, or take a new key"
        )
    return hook


def _checked_cursor(text: str) -> str:
    try:
        decode_cursor(text)
    except ValueError as error:
        raise Invalid(
            f"from is neither a time like 2026-01-31T12:00:00Z nor a cursor: {error}",
            faults=(Fault("from", "a time (ISO 8601) or a cursor of an event"),),
        ) from error
    return text


def _check_wanted(hook: Hook) -> None:
    try:
        wanted_by(hook)
    except ValueError as error:
        raise Invalid(str(error), faults=(Fault("filter", str(error)),)) from error


def _found(hook: Hook | None, hook_id: str) -> Hook:
    if hook is None:
        raise _unknown(hook_id)
    return hook


def _unknown(hook_id: str) -> Unknown:
    return Unknown(f"there is no webhook {hook_id[:100]!r}")
