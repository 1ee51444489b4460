"""Batches as they arrived, and whether they brought a corpus of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batches", sa.Column("has_corpus", sa.Boolean(), nullable=False, server_default=sa.false()))
    nothing = sa.text("X''" if op.get_bind().dialect.name == "sqlite" else "''")
    op.add_column("batches", sa.Column("event", sa.LargeBinary(), nullable=False, server_default=nothing))


def downgrade() -> None:
    op.drop_column("batches", "event")
    op.drop_column("batches", "has_corpus")
