"""What a webhook carries: the event stream's JSON document, or a short text for Slack and its like."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from mendloop.core.events import Envelope, stable_hash
from mendloop.gateway.domain.hooks import Format, Hook
from mendloop.gateway.feed import Entry
from mendloop.runs.fold import run_of
from mendloop.runs.model import RunView
from mendloop.runs.words import in_words

TEST_TYPE = "mendloop.webhook.test"
MAX_TEXT_LENGTH = 2_000


@dataclass(frozen=True, slots=True)
class Letter:
    """An event made ready for a receiver; at is when the event was made (None where its header does not say)."""

    event_id: str
    event_type: str
    run_id: str
    at: datetime | None
    body: bytes


def letter_of(entry: Entry, *, format: Format, public_url: str, view: RunView | None = None) -> Letter:
    """The letter of an event. public_url is where people reach the gateway; empty leaves the link out. The view of its
    run adds to a verdict the accuracy that it explains."""
    run_id = run_of(entry.message)
    if format == "slack":
        body = _slack(_text(entry, run_id=run_id, public_url=public_url, view=view))
    else:
        body = entry.data.encode()
    envelope = entry.envelope
    return Letter(_plain_id(envelope.event_id), envelope.event_type, run_id, made_at(envelope), body)


def _plain_id(event_id: str) -> str:
    """The id, or a hash of one that no HTTP header can carry: it would hold its hook back for a day."""
    is_plain = event_id.isascii() and event_id.isprintable() and event_id == event_id.strip() and event_id
    return event_id if is_plain else stable_hash("webhook-id", event_id)


def test_letter(hook: Hook, *, event_id: str, now: datetime) -> Letter:
    """A letter that says that it is a test; no run has it."""
    if hook.format == "slack":
        body = _slack("Mendloop: a test of this webhook; nothing has happened")
    else:
        headers = {
            "ce_specversion": "1.0",
            "ce_id": event_id,
            "ce_type": TEST_TYPE,
            "ce_source": "/mendloop/gateway",
            "ce_subject": hook.hook_id,
            "ce_time": now.isoformat(),
        }
        body = json.dumps({"headers": headers, "message": {"webhook_id": hook.hook_id}}).encode()
    return Letter(event_id, TEST_TYPE, "", now, body)


def made_at(envelope: Envelope) -> datetime | None:
    """When an event was made; None where its header cannot be read."""
    try:
        at = datetime.fromisoformat(envelope.headers.get("ce_time", ""))
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _text(entry: Entry, *, run_id: str, public_url: str, view: RunView | None) -> str:
    """`EvalFailed in run r1: verb=jump: 0/20 right [0.000, 0.168], weak below 0.8`, the run being a link."""
    name = entry.envelope.event_type.rpartition(".")[2]
    where = _escaped(run_id)
    if public_url and run_id:
        where = f"<{public_url.rstrip('/')}/runs/{quote(run_id, safe='')}|{where}>"
    said = _escaped(in_words(entry.message, view=view))
    return f"*{name}*{f' in run {where}' if run_id else ''}{f': {said}' if said else ''}"


def _slack(text: str) -> bytes:
    cut = text if len(text) <= MAX_TEXT_LENGTH else text[: MAX_TEXT_LENGTH - 1] + "…"
    return json.dumps({"text": cut}, ensure_ascii=False).encode()


def _escaped(text: str) -> str:
    """The three characters that Slack's text reads as markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
