"""Queries of sealed items, counted over all runs; what people ask of a run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sealed_queries",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("arm", sa.Text(), nullable=False),
        sa.Column("suite", sa.Text(), nullable=False),
        sa.Column("is_told", sa.Boolean(), nullable=False),
        sa.Column("asked_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_sealed_queries_run_id")),
        sa.PrimaryKeyConstraint("run_id", "round", "arm", name=op.f("pk_sealed_queries")),
    )
    op.create_table(
        "steerings",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("steered_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("given_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_steerings_run_id")),
        sa.PrimaryKeyConstraint("run_id", "number", name=op.f("pk_steerings")),
    )
    op.create_index(op.f("ix_sealed_queries_suite"), "sealed_queries", ["suite"], unique=False)


def downgrade() -> None:
    op.drop_table("steerings")
    op.drop_table("sealed_queries")
