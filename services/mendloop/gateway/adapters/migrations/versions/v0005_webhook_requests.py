"""Which request created a webhook, for those with an idempotency key."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("gateway_webhooks", sa.Column("request_digest", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("gateway_webhooks", "request_digest")
