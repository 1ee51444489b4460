"""Signatures of webhooks after Standard Webhooks 1.0 (standardwebhooks.com): HMAC-SHA256 over id.timestamp.body."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable

from mendloop.gateway.domain.hooks import Secret

PREFIX = "whsec_"
SECRET_BYTES = 32
MAX_SECRETS = 4


def secret_text(raw: bytes) -> str:
    """The secret of random bytes as receivers get it. Raises ValueError outside the standard's 24 to 64 bytes."""
    if not 24 <= len(raw) <= 64:
        raise ValueError(f"a secret has {len(raw)} bytes; the standard wants 24 to 64")
    return PREFIX + base64.b64encode(raw).decode()


def signing_headers(
    secrets: Iterable[Secret], *, event_id: str, timestamp: int, body: bytes, now: float
) -> dict[str, str]:
    """webhook-id, webhook-timestamp and webhook-signature: one signature for each secret that is not over."""
    valid = [secret for secret in secrets if secret.expires_at is None or now < secret.expires_at]
    signatures = (_signature(secret.text, event_id=event_id, timestamp=timestamp, body=body) for secret in valid)
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }


def rotated(secrets: Iterable[Secret], *, fresh: str, now: float, overlap_s: float) -> tuple[Secret, ...]:
    """The fresh secret first; those before it sign until the overlap is over, or until they are over anyway. At most
    MAX_SECRETS sign, the newest."""
    kept = [s for s in secrets if s.expires_at is None or now < s.expires_at]
    ends = [min(now + overlap_s, s.expires_at or now + overlap_s) for s in kept]
    before = [Secret(s.text, end) for s, end in zip(kept, ends, strict=True) if end > now]
    return (Secret(fresh), *before[: MAX_SECRETS - 1])


def _signature(secret: str, *, event_id: str, timestamp: int, body: bytes) -> str:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("the stored secret is not base64 after whsec_") from None
    digest = hmac.new(key, f"{event_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"
