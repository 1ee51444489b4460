"""Sessions of browsers in SQL. A cookie holds a random secret; its hash stands here with the credential behind it."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Engine

from mendloop.database.engine import reading, retryable
from mendloop.gateway.adapters import access_tables as tables
from mendloop.gateway.domain.access import Principal, RunLimits, Scope
from mendloop.gateway.domain.keys import digest

LIFETIME_S = 12 * 3600.0


@dataclass(frozen=True, slots=True)
class Session:
    """Who signed in, and the hash of the token that they signed in with."""

    principal: Principal
    token_digest: str
    expires_at: float


class SessionStore:
    """The sessions of a database. Every method raises Retryable where the database is busy or away."""

    def __init__(self, engine: Engine, *, clock: Callable[[], float]) -> None:
        self._engine, self._clock = engine, clock

    def open(self, principal: Principal, *, token: str) -> tuple[str, Session]:
        """The cookie of a new session, which ends with its credential. Sessions that are over are cleared away."""
        now, cookie = self._clock(), secrets.token_hex(32)
        ends = min(now + LIFETIME_S, principal.expires_at or float("inf"))
        session = Session(principal, digest(token), ends)
        row = {
            "digest": digest(cookie),
            "credential": principal.credential,
            "token_digest": session.token_digest,
            "principal": _document(principal),
            "created_at": now,
            "expires_at": ends,
        }
        with retryable(), self._engine.begin() as db:
            db.execute(sa.delete(tables.sessions).where(tables.sessions.c.expires_at <= now))
            db.execute(sa.insert(tables.sessions).values(row))
        return cookie, session

    def find(self, cookie: str) -> Session | None:
        """The session of a cookie; None where there is none or it is over."""
        found = tables.sessions.c
        query = sa.select(tables.sessions).where(found.digest == digest(cookie), found.expires_at > self._clock())
        with retryable(), reading(self._engine).begin() as db:
            row = db.execute(query).one_or_none()
        if row is None:
            return None
        return Session(_principal(row.principal), row.token_digest, row.expires_at)

    def close(self, cookie: str) -> None:
        """End a session."""
        with retryable(), self._engine.begin() as db:
            db.execute(sa.delete(tables.sessions).where(tables.sessions.c.digest == digest(cookie)))


def csrf_token(cookie: str) -> str:
    """What a page must send beside its cookie: another site may make a browser send that, but cannot read this."""
    return hmac.new(cookie.encode(), b"csrf", "sha256").hexdigest()


def _document(principal: Principal) -> dict[str, object]:
    limits = principal.limits
    return {
        "who": principal.who,
        "scope": principal.scope.word,
        "limits": None if limits is None else {"own": limits.own, "patterns": list(limits.patterns)},
        "credential": principal.credential,
        "expires_at": principal.expires_at,
    }


def _principal(document: dict[str, object]) -> Principal:
    limits = document["limits"]
    assert limits is None or isinstance(limits, dict)
    expires_at = document["expires_at"]
    assert expires_at is None or isinstance(expires_at, float | int)
    return Principal(
        str(document["who"]),
        Scope.of(str(document["scope"])),
        None if limits is None else RunLimits(bool(limits["own"]), tuple(limits["patterns"])),
        str(document["credential"]),
        expires_at,
    )
