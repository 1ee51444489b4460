"""Keys, sessions and the audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "gateway_keys",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("limits", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.Float(precision=53), nullable=True),
        sa.Column("revoked_at", sa.Float(precision=53), nullable=True),
        sa.Column("last_used_at", sa.Float(precision=53), nullable=True),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_gateway_keys")),
    )
    op.create_table(
        "gateway_key_secrets",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("expires_at", sa.Float(precision=53), nullable=True),
        sa.ForeignKeyConstraint(["key_id"], ["gateway_keys.key_id"], name=op.f("fk_gateway_key_secrets_key_id")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_gateway_key_secrets")),
    )
    op.create_index(op.f("ix_gateway_key_secrets_key_id"), "gateway_key_secrets", ["key_id"])
    op.create_table(
        "gateway_sessions",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("credential", sa.Text(), nullable=False),
        sa.Column("token_digest", sa.Text(), nullable=False),
        sa.Column("principal", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("expires_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_gateway_sessions")),
    )
    op.create_index(op.f("ix_gateway_sessions_expires_at"), "gateway_sessions", ["expires_at"])
    op.create_table(
        "gateway_audit",
        sa.Column("entry", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("credential", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("entry", name=op.f("pk_gateway_audit")),
    )
    for column in ("at", "who", "run_id"):
        op.create_index(op.f(f"ix_gateway_audit_{column}"), "gateway_audit", [column])


def downgrade() -> None:
    for table in ("gateway_audit", "gateway_sessions", "gateway_key_secrets", "gateway_keys"):
        op.drop_table(table)
