"""Keys in SQL: made, listed, rotated, revoked, found by the token that somebody shows."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, Row

from mendloop.database.engine import reading, retryable
from mendloop.gateway.adapters import access_tables as tables
from mendloop.gateway.domain import keys
from mendloop.gateway.domain.access import RunLimits, Scope
from mendloop.gateway.domain.keys import Key, Secret
from mendloop.gateway.domain.refusals import Conflict, Unknown

DAY_S = 86_400.0
USE_NOTED_EVERY_S = 60.0


class KeyStore:
    """The keys of a database. Every method raises Retryable where the database is busy or away."""

    def __init__(self, engine: Engine, *, clock: Callable[[], float]) -> None:
        self._engine, self._clock = engine, clock

    def create(
        self,
        name: str,
        *,
        scope: Scope,
        by: str,
        limits: RunLimits | None = None,
        lifetime_s: float | None = None,
    ) -> tuple[Key, str]:
        """A new key, and its token, which nobody can read again. Raises Invalid for an impossible one."""
        now = self._clock()
        expires_at = None if lifetime_s is None else now + lifetime_s
        key = Key(secrets.token_hex(6), name, scope, limits, now, by, expires_at)
        with retryable(), self._engine.begin() as db:
            db.execute(sa.insert(tables.keys).values(_row(key)))
            secret = _add_secret(db, key.key_id, now=now)
        return key, keys.token_of(key.key_id, secret)

    def all(self) -> list[Key]:
        """Every key, newest first."""
        with retryable(), reading(self._engine).begin() as db:
            rows = db.execute(sa.select(tables.keys).order_by(tables.keys.c.created_at.desc(), tables.keys.c.key_id))
            return [_key(row) for row in rows]

    def get(self, key_id: str) -> Key:
        """A key with its secrets' hashes. Raises Unknown."""
        with retryable(), reading(self._engine).begin() as db:
            return _found(db, key_id)

    def rotate(self, key_id: str, *, overlap_s: float) -> tuple[Key, str]:
        """A new secret; the old ones go on for overlap_s. Raises Unknown, or Conflict for a key that is over."""
        now = self._clock()
        with retryable(), self._engine.begin() as db:
            key = _found(db, key_id)
            if key.state(now=now) != "active":
                raise Conflict(f"the key {key_id} is {key.state(now=now)}; make a new one instead")
            ends = now + overlap_s
            column = tables.secrets.c.expires_at
            db.execute(
                sa.update(tables.secrets)
                .where(tables.secrets.c.key_id == key_id, sa.or_(column.is_(None), column > ends))
                .values(expires_at=ends)
            )
            secret = _add_secret(db, key_id, now=now)
            return _found(db, key_id), keys.token_of(key_id, secret)

    def revoke(self, key_id: str) -> Key:
        """End a key now; again changes nothing. Raises Unknown."""
        with retryable(), self._engine.begin() as db:
            _found(db, key_id)
            db.execute(
                sa.update(tables.keys)
                .where(tables.keys.c.key_id == key_id, tables.keys.c.revoked_at.is_(None))
                .values(revoked_at=self._clock())
            )
            return _found(db, key_id)

    def shown(self, key_id: str, secret: str) -> Key | None:
        """The key of a token, whatever its state; None where the secret is not its."""
        now = self._clock()
        with retryable(), reading(self._engine).begin() as db:
            try:
                key = _found(db, key_id)
            except Unknown:
                return None
        return key if keys.is_known(secret, key.secrets, now=now) else None

    def note_use(self, key: Key) -> None:
        """Remember that a key was used, to the minute."""
        now = self._clock()
        if key.last_used_at is not None and now - key.last_used_at < USE_NOTED_EVERY_S:
            return
        with retryable(), self._engine.begin() as db:
            db.execute(sa.update(tables.keys).where(tables.keys.c.key_id == key.key_id).values(last_used_at=now))


def _add_secret(db: Connection, key_id: str, *, now: float) -> str:
    secret = secrets.token_hex(keys.SECRET_BYTES)
    row = {"digest": keys.digest(secret), "key_id": key_id, "created_at": now, "expires_at": None}
    db.execute(sa.insert(tables.secrets).values(row))
    return secret


def _found(db: Connection, key_id: str) -> Key:
    row = db.execute(sa.select(tables.keys).where(tables.keys.c.key_id == key_id)).one_or_none()
    if row is None:
        raise Unknown(f"there is no key {key_id[:40]!r}")
    kept = db.execute(sa.select(tables.secrets).where(tables.secrets.c.key_id == key_id))
    return _key(row, [Secret(one.digest, one.expires_at) for one in kept])


def _row(key: Key) -> dict[str, object]:
    limits = None if key.limits is None else {"own": key.limits.own, "patterns": list(key.limits.patterns)}
    return {
        "key_id": key.key_id,
        "name": key.name,
        "scope": key.scope.word,
        "limits": limits,
        "created_at": key.created_at,
        "created_by": key.created_by,
        "expires_at": key.expires_at,
    }


def _key(row: Row[tuple[object, ...]], known: Sequence[Secret] = ()) -> Key:
    limits = None if row.limits is None else RunLimits(row.limits["own"], tuple(row.limits["patterns"]))
    return Key(
        row.key_id,
        row.name,
        Scope.of(row.scope),
        limits,
        row.created_at,
        row.created_by,
        row.expires_at,
        row.revoked_at,
        row.last_used_at,
        tuple(known),
    )
