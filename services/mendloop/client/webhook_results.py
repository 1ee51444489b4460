"""Webhooks and their deliveries as the gateway answers with them, typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Self

from mendloop.client.results import time_of

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook as it stands. secret is empty save where it was just made; document holds the whole JSON.

    state is delivering, failing or disabled.
    """

    webhook_id: str
    url: str
    description: str
    format: str
    runs: tuple[str, ...]
    types: tuple[str, ...]
    causes: tuple[str, ...]
    slices: tuple[str, ...]
    state: str
    disabled_reason: str
    last_error: str
    last_delivered_at: datetime | None
    next_attempt_at: datetime | None
    delivered_count: int
    failed_count: int
    cursor: str
    created_at: datetime | None
    updated_at: datetime | None
    secret: str = field(default="", repr=False)
    document: Document = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, document: Document) -> Self:
        """The webhook of a document."""
        texts = ("webhook_id", "url", "description", "format", "state", "disabled_reason", "last_error", "cursor")
        times = ("last_delivered_at", "next_attempt_at", "created_at", "updated_at")
        filters = ("runs", "types", "causes", "slices")
        known: dict[str, Any] = {name: document[name] for name in (*texts, "delivered_count", "failed_count")}
        known |= {name: tuple(document["filter"][name]) for name in filters}
        known |= {name: time_of(document[name]) for name in times}
        return cls(
            **known,
            secret=document.get("secret", ""),
            document={name: value for name, value in document.items() if name != "secret"},
        )


@dataclass(frozen=True, slots=True)
class WebhookPage:
    """Webhooks by id; next_cursor is empty on the last page."""

    webhooks: tuple[Webhook, ...]
    next_cursor: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One try of one event. result is delivered, retry, refused or gone; status is 0 where no answer came."""

    event_id: str
    type: str
    run_id: str
    at: datetime | None
    attempt: int
    result: str
    status: int
    seconds: float
    detail: str
    is_test: bool

    @classmethod
    def of(cls, document: Document) -> Self:
        """The try of a document."""
        known = {item.name: document[item.name] for item in fields(cls)}  # a later gateway may tell more
        return cls(**{**known, "at": time_of(document["at"])})


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """Tries, newest first; next_cursor is empty on the last page."""

    deliveries: tuple[Delivery, ...]
    next_cursor: str
