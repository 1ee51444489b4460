"""What became of verdicts and of promoted checkpoints, and where in the log each run began."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("gateway_runs", sa.Column("began", sa.Text(), nullable=False, server_default=""))
    op.create_table(
        "gateway_promises",
        sa.Column("checkpoint", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("evaluation_id", sa.Text(), nullable=False),
        sa.Column("promised_us", sa.BigInteger(), nullable=False),
        sa.Column("lows", sa.Text(), nullable=False),
        sa.Column("regressed", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("checkpoint", name="pk_gateway_promises"),
    )
    op.create_table(
        "gateway_verdict_cases",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("round", sa.BigInteger(), nullable=False),
        sa.Column("slice_id", sa.Text(), nullable=False),
        sa.Column("decided_us", sa.BigInteger(), nullable=False),
        sa.Column("confidence", sa.Float(precision=53), nullable=False),
        sa.Column("improved", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "round", "slice_id", name="pk_gateway_verdict_cases"),
    )
    op.create_index("ix_gateway_verdict_cases_decided_us", "gateway_verdict_cases", ["decided_us"])


def downgrade() -> None:
    for table in ("gateway_verdict_cases", "gateway_promises"):
        op.drop_table(table)
    op.drop_column("gateway_runs", "began")
