"""What both clients have as `client.webhooks`: the same methods, one blocks and one awaits. Needs the scope admin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

from mendloop.client import webhook_calls as calls
from mendloop.client.talking import Talk, asked
from mendloop.client.webhook_results import Delivery, DeliveryPage, Webhook, WebhookPage

T = TypeVar("T")
DAY_S = 86_400.0


class Drive(Protocol):
    """A blocking client's driver of talks."""

    def __call__(self, talk: Talk[T], /) -> T:
        """The talk's result."""
        ...


class DriveAsync(Protocol):
    """An awaiting client's driver of talks."""

    async def __call__(self, talk: Talk[T], /) -> T:
        """The talk's result."""
        ...


class Webhooks:
    """The webhooks of a gateway. Every method raises ClientError."""

    def __init__(self, drive: Drive) -> None:
        self._drive = drive

    def create(
        self,
        url: str,
        *,
        description: str = "",
        format: str = "event",
        runs: Sequence[str] = (),
        types: Sequence[str] = (),
        causes: Sequence[str] = (),
        slices: Sequence[str] = (),
        key: str = "",
    ) -> Webhook:
        """A new webhook with its secret. format is event or slack. The same key and values again are the same webhook;
        without a key a new one makes retries safe. Raises Invalid for a key of another webhook."""
        wanted = calls.wanted(runs=runs, types=types, causes=causes, slices=slices)
        return self._drive(asked(calls.create(url=url, description=description, format=format, filter=wanted, key=key)))

    def page(self, *, limit: int = 50, cursor: str = "") -> WebhookPage:
        """A page of webhooks, by id."""
        return self._drive(asked(calls.page(limit=limit, cursor=cursor)))

    def list(self) -> Iterator[Webhook]:
        """All webhooks, page after page."""
        cursor = ""
        while True:
            page = self.page(limit=200, cursor=cursor)
            yield from page.webhooks
            cursor = page.next_cursor
            if not cursor:
                return

    def get(self, webhook_id: str) -> Webhook:
        """One webhook."""
        return self._drive(asked(calls.get(webhook_id)))

    def update(
        self,
        webhook_id: str,
        *,
        url: str | None = None,
        description: str | None = None,
        format: str | None = None,
        filter: dict[str, Any] | None = None,
    ) -> Webhook:
        """Change what is given; its place in the log stays. filter replaces all of runs, types, causes and slices."""
        changes = {"url": url, "description": description, "format": format, "filter": filter}
        return self._drive(asked(calls.update(webhook_id, changes)))

    def delete(self, webhook_id: str) -> None:
        """Delete a webhook with its log. Raises NotFound, also where a try whose answer was lost had deleted it."""
        self._drive(asked(calls.delete(webhook_id)))

    def enable(self, webhook_id: str) -> Webhook:
        """Let it go on where it stopped, at once."""
        return self._drive(asked(calls.change(webhook_id, "enable")))

    def disable(self, webhook_id: str, *, reason: str = "") -> Webhook:
        """Stop it; its place stays."""
        return self._drive(asked(calls.change(webhook_id, "disable", {"reason": reason})))

    def rotate_secret(self, webhook_id: str, *, overlap_s: float = DAY_S) -> Webhook:
        """The webhook with a new secret; those before it sign too until the overlap is over."""
        return self._drive(asked(calls.change(webhook_id, "rotate-secret", {"overlap_s": overlap_s})))

    def replay(self, webhook_id: str, start: datetime | str) -> Webhook:
        """Deliver again from a time, or from behind an event's cursor."""
        return self._drive(asked(calls.change(webhook_id, "replay", calls.begin(start))))

    def test(self, webhook_id: str) -> Delivery:
        """Send a test event now; what came of it."""
        return self._drive(asked(calls.test(webhook_id)))

    def deliveries(self, webhook_id: str, *, limit: int = 50, cursor: str = "") -> DeliveryPage:
        """A page of the newest tries."""
        return self._drive(asked(calls.deliveries(webhook_id, limit=limit, cursor=cursor)))


class AsyncWebhooks:
    """The webhooks of a gateway, awaited. Every method raises ClientError."""

    def __init__(self, drive: DriveAsync) -> None:
        self._drive = drive

    async def create(
        self,
        url: str,
        *,
        description: str = "",
        format: str = "event",
        runs: Sequence[str] = (),
        types: Sequence[str] = (),
        causes: Sequence[str] = (),
        slices: Sequence[str] = (),
        key: str = "",
    ) -> Webhook:
        """A new webhook with its secret. format is event or slack. The same key and values again are the same webhook;
        without a key a new one makes retries safe. Raises Invalid for a key of another webhook."""
        wanted = calls.wanted(runs=runs, types=types, causes=causes, slices=slices)
        return await self._drive(
            asked(calls.create(url=url, description=description, format=format, filter=wanted, key=key))
        )

    async def page(self, *, limit: int = 50, cursor: str = "") -> WebhookPage:
        """A page of webhooks, by id."""
        return await self._drive(asked(calls.page(limit=limit, cursor=cursor)))

    async def list(self) -> AsyncIterator[Webhook]:
        """All webhooks, page after page."""
        cursor = ""
        while True:
            page = await self.page(limit=200, cursor=cursor)
            for webhook in page.webhooks:
                yield webhook
            cursor = page.next_cursor
            if not cursor:
                return

    async def get(self, webhook_id: str) -> Webhook:
        """One webhook."""
        return await self._drive(asked(calls.get(webhook_id)))

    async def update(
        self,
        webhook_id: str,
        *,
        url: str | None = None,
        description: str | None = None,
        format: str | None = None,
        filter: dict[str, Any] | None = None,
    ) -> Webhook:
        """Change what is given; its place in the log stays. filter replaces all of runs, types, causes and slices."""
        changes = {"url": url, "description": description, "format": format, "filter": filter}
        return await self._drive(asked(calls.update(webhook_id, changes)))

    async def delete(self, webhook_id: str) -> None:
        """Delete a webhook with its log. Raises NotFound, also where a try whose answer was lost had deleted it."""
        await self._drive(asked(calls.delete(webhook_id)))

    async def enable(self, webhook_id: str) -> Webhook:
        """Let it go on where it stopped, at once."""
        return await self._drive(asked(calls.change(webhook_id, "enable")))

    async def disable(self, webhook_id: str, *, reason: str = "") -> Webhook:
        """Stop it; its place stays."""
        return await self._drive(asked(calls.change(webhook_id, "disable", {"reason": reason})))

    async def rotate_secret(self, webhook_id: str, *, overlap_s: float = DAY_S) -> Webhook:
        """The webhook with a new secret; those before it sign too until the overlap is over."""
        return await self._drive(asked(calls.change(webhook_id, "rotate-secret", {"overlap_s": overlap_s})))

    async def replay(self, webhook_id: str, start: datetime | str) -> Webhook:
        """Deliver again from a time, or from behind an event's cursor."""
        return await self._drive(asked(calls.change(webhook_id, "replay", calls.begin(start))))

    async def test(self, webhook_id: str) -> Delivery:
        """Send a test event now; what came of it."""
        return await self._drive(asked(calls.test(webhook_id)))

    async def deliveries(self, webhook_id: str, *, limit: int = 50, cursor: str = "") -> DeliveryPage:
        """A page of the newest tries."""
        return await self._drive(asked(calls.deliveries(webhook_id, limit=limit, cursor=cursor)))
