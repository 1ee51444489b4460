"""The requests about webhooks and how their answers are read. Does no I/O."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from mendloop.client.calls import JSON, Call, Request
from mendloop.client.webhook_results import Delivery, DeliveryPage, Webhook, WebhookPage

_ROOT = "/v1/webhooks"


def wanted(
    *, runs: Sequence[str], types: Sequence[str], causes: Sequence[str], slices: Sequence[str]
) -> dict[str, list[str]]:
    """A filter as REST takes it; a text instead of several is a mistake, for it would be read letter by letter."""
    named = {"runs": runs, "types": types, "causes": causes, "slices": slices}
    for name, values in named.items():
        if isinstance(values, str):
            raise ValueError(f"{name} is {values!r}; it must be a list of texts")
    return {name: list(values) for name, values in named.items()}


def create(*, url: str, description: str, format: str, filter: Mapping[str, list[str]], key: str) -> Call[Webhook]:
    """A new webhook. Without a key a new one makes retries safe."""
    body = {"url": url, "description": description, "format": format, "filter": dict(filter)}
    return _call("POST", _ROOT, body, headers={"idempotency-key": key or str(uuid.uuid4())})


def page(*, limit: int, cursor: str) -> Call[WebhookPage]:
    """A page of webhooks."""
    return Call(Request("GET", _ROOT, _paging(limit, cursor)), _read_page)


def get(webhook_id: str) -> Call[Webhook]:
    """One webhook."""
    return Call(Request("GET", _path(webhook_id)), _read)


def update(webhook_id: str, changes: Mapping[str, Any]) -> Call[Webhook]:
    """Change what is not None."""
    return _call("PATCH", _path(webhook_id), {name: value for name, value in changes.items() if value is not None})


def delete(webhook_id: str) -> Call[None]:
    """Delete a webhook with its log."""
    return Call(Request("DELETE", _path(webhook_id)), lambda body: None)


def change(webhook_id: str, verb: str, body: Mapping[str, Any] | None = None) -> Call[Webhook]:
    """enable, disable, rotate-secret or replay."""
    return _call("POST", f"{_path(webhook_id)}/{verb}", body or {})


def begin(start: datetime | str) -> dict[str, str]:
    """The body of a replay: a time (without a zone: UTC) or a cursor."""
    return {"from": start.isoformat() if isinstance(start, datetime) else start}


def test(webhook_id: str) -> Call[Delivery]:
    """Send a test event now."""
    return Call(Request("POST", f"{_path(webhook_id)}/test"), lambda body: Delivery.of(json.loads(body)))


def deliveries(webhook_id: str, *, limit: int, cursor: str) -> Call[DeliveryPage]:
    """A page of tries."""
    return Call(Request("GET", f"{_path(webhook_id)}/deliveries", _paging(limit, cursor)), _read_deliveries)


def _call(
    method: str, path: str, body: Mapping[str, Any], *, headers: Mapping[str, str] | None = None
) -> Call[Webhook]:
    if not body:
        return Call(Request(method, path, headers=headers or {}), _read)
    content = json.dumps(dict(body)).encode()
    return Call(Request(method, path, headers={"content-type": JSON, **(headers or {})}, content=content), _read)


def _path(webhook_id: str) -> str:
    if not webhook_id or webhook_id in (".", ".."):
        raise ValueError(f"webhook_id is {webhook_id!r}; it must name a webhook")
    return f"{_ROOT}/{quote(webhook_id, safe='')}"


def _paging(limit: int, cursor: str) -> list[tuple[str, str]]:
    return [("limit", str(limit)), *([("cursor", cursor)] if cursor else [])]


def _read(body: bytes) -> Webhook:
    return Webhook.of(json.loads(body))


def _read_page(body: bytes) -> WebhookPage:
    document = json.loads(body)
    return WebhookPage(tuple(map(Webhook.of, document["webhooks"])), document["next_cursor"])


def _read_deliveries(body: bytes) -> DeliveryPage:
    document = json.loads(body)
    return DeliveryPage(tuple(map(Delivery.of, document["deliveries"])), document["next_cursor"])
