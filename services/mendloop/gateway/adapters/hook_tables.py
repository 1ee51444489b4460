"""The SQL tables of webhooks: one row a hook with its progress and its lease, and the log of attempts.

Times are Unix seconds. Knows columns; knows no rule.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, ForeignKey, Index, Integer, Table, Text

from mendloop.gateway.adapters.tables import metadata

hooks = Table(
    "gateway_webhooks",
    metadata,
    Column("hook_id", Text, primary_key=True),
    Column("url", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("wanted", JSON, nullable=False),
    Column("secrets", Text, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("updated_at", Float(53), nullable=False),
    Column("version", Integer, nullable=False),
    Column("cursor", Text, nullable=False),
    Column("not_before", Text, nullable=False),
    Column("is_enabled", Boolean, nullable=False),
    Column("disabled_reason", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("failing_since", Float(53)),
    Column("next_attempt_at", Float(53), nullable=False),
    Column("refused_count", Integer, nullable=False),
    Column("delivered_count", BigInteger, nullable=False),
    Column("failed_count", BigInteger, nullable=False),
    Column("last_delivered_at", Float(53)),
    Column("last_error", Text, nullable=False),
    Column("lease_owner", Text, nullable=False, server_default=""),
    Column("lease_until", Float(53), nullable=False, server_default="0"),
    Column("request_digest", Text, nullable=False, server_default=""),
)

attempts = Table(
    "gateway_webhook_attempts",
    metadata,
    Column("attempt_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("hook_id", Text, ForeignKey("gateway_webhooks.hook_id", ondelete="CASCADE"), nullable=False),
    Column("event_id", Text, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("at", Float(53), nullable=False),
    Column("number", Integer, nullable=False),
    Column("result", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("seconds", Float(53), nullable=False),
    Column("detail", Text, nullable=False),
    Column("is_test", Boolean, nullable=False),
    Index("ix_gateway_webhook_attempts_hook_id", "hook_id", "attempt_id"),
)
