"""Tables of keys, sessions and the audit log. Times are Unix seconds. No secret stands here, only hashes of secrets."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Float, ForeignKey, Integer, Table, Text

from mendloop.gateway.adapters.tables import metadata


def _text(name: str, *, index: bool = False) -> Column[str]:
    return Column(name, Text, nullable=False, index=index)


def _time(name: str, *, nullable: bool = False, index: bool = False) -> Column[float]:
    return Column(name, Float(53), nullable=nullable, index=index)


keys = Table(
    "gateway_keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    _text("name"),
    _text("scope"),
    Column("limits", JSON(none_as_null=True), nullable=True),
    _time("created_at"),
    _text("created_by"),
    _time("expires_at", nullable=True),
    _time("revoked_at", nullable=True),
    _time("last_used_at", nullable=True),
)
secrets = Table(
    "gateway_key_secrets",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("key_id", Text, ForeignKey("gateway_keys.key_id"), nullable=False, index=True),
    _time("created_at"),
    _time("expires_at", nullable=True),
)
sessions = Table(
    "gateway_sessions",
    metadata,
    Column("digest", Text, primary_key=True),
    _text("credential"),
    _text("token_digest"),
    Column("principal", JSON, nullable=False),
    _time("created_at"),
    _time("expires_at", index=True),
)
audit = Table(
    "gateway_audit",
    metadata,
    Column("entry", Integer, primary_key=True, autoincrement=True),
    _time("at", index=True),
    _text("who", index=True),
    _text("credential"),
    _text("action"),
    _text("run_id", index=True),
    _text("reason"),
    _text("address"),
    _text("result"),
)
