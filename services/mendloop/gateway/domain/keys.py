"""API keys: their text, what is stored of them, and when one is worth nothing.

A key is `mend_<id>_<secret>` with a secret of 256 random bits. Only SHA-256 of the secret is stored: a slow hash such
as scrypt protects guessable secrets, and nobody guesses 2^256.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mendloop.gateway.domain.access import Principal, RunLimits, Scope
from mendloop.gateway.domain.refusals import Invalid, NotSignedIn

PREFIX = "mend"
LOCAL_ID = "local"
SECRET_BYTES = 32
_TOKEN = re.compile(rf"{PREFIX}_([0-9a-z]{{1,32}})_([0-9a-f]{{{2 * SECRET_BYTES}}})")
MAX_NAME_LENGTH = 100


@dataclass(frozen=True, slots=True)
class Secret:
    """The SHA-256 of a key's secret in hex; it is worth nothing from expires_at on (None: as long as its key)."""

    digest: str
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a key. Times are Unix seconds; None is never."""

    key_id: str
    name: str
    scope: Scope
    limits: RunLimits | None
    created_at: float
    created_by: str
    expires_at: float | None
    revoked_at: float | None = None
    last_used_at: float | None = None
    secrets: tuple[Secret, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= MAX_NAME_LENGTH or not self.name.isprintable():
            raise Invalid(f"a key's name has 1 to {MAX_NAME_LENGTH} printable characters, not {self.name[:120]!r}")
        if self.scope is Scope.ADMIN and self.limits is not None:
            raise Invalid("an admin key makes other keys, so it cannot be limited to runs; choose read, run or approve")

    @property
    def who(self) -> str:
        """Its name and id: names may be given twice."""
        return f"{self.name} (key {self.key_id})"

    def state(self, *, now: float) -> str:
        """active, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"

    def principal(self, *, now: float) -> Principal:
        """Who asks with this key. Raises NotSignedIn where it is expired or revoked."""
        state = self.state(now=now)
        if state != "active":
            raise NotSignedIn(f"the key {self.key_id} is {state}; ask an administrator for a new one")
        return Principal(self.who, self.scope, self.limits, f"key:{self.key_id}", self.expires_at)


def token_of(key_id: str, secret: str) -> str:
    """The text that its owner keeps."""
    return f"{PREFIX}_{key_id}_{secret}"


def split_token(token: str) -> tuple[str, str] | None:
    """Key id and secret; None where the text is no key."""
    found = _TOKEN.fullmatch(token)
    return (found.group(1), found.group(2)) if found else None


def digest(text: str) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def is_known(secret: str, known: Sequence[Secret], *, now: float) -> bool:
    """Whether a secret is one of them and still worth something. Takes the same time whichever digit differs."""
    shown = digest(secret)
    matches = [
        hmac.compare_digest(shown, one.digest) and (one.expires_at is None or now < one.expires_at) for one in known
    ]
    return any(matches)
