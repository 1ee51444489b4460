"""Runs and their events as lists and searches need them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _text(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]


def _counts(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def _flags(*names: str) -> list[sa.Column[bool]]:
    return [sa.Column(name, sa.Boolean(), nullable=False) for name in names]


def _shares(*names: str, nullable: bool = False) -> list[sa.Column[float]]:
    return [sa.Column(name, sa.Float(precision=53), nullable=nullable) for name in names]


def upgrade() -> None:
    op.create_table(
        "gateway_events",
        sa.Column("serial", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        *_text("topic"),
        *_counts("part", "pos"),
        *_text("run_id", "event_type", "event_id"),
        *_counts("at_us", "round"),
        *_text("arm", "slice_id", "cause", "event_key", "headers"),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("serial", name="pk_gateway_events"),
        sa.UniqueConstraint("topic", "part", "pos", name="uq_gateway_events_place"),
    )
    op.create_index("ix_gateway_events_run", "gateway_events", ["run_id", "serial"])
    op.create_table(
        "gateway_places",
        *_text("topic"),
        *_counts("part", "next_pos"),
        sa.PrimaryKeyConstraint("topic", "part", name="pk_gateway_places"),
    )
    op.create_table(
        "gateway_runs",
        *_text("run_id", "recipe", "task", "state", "stage"),
        *_counts("round"),
        *_text("outcome", "requested_by"),
        *_counts("started_us", "finished_us", "updated_us"),
        *_shares("accuracy_before", "accuracy_after", nullable=True),
        *_counts("dead_letter_count"),
        *_text("cost", "summary", "search", "facts"),
        *_counts("event_count"),
        sa.PrimaryKeyConstraint("run_id", name="pk_gateway_runs"),
    )
    op.create_index("ix_gateway_runs_started_us", "gateway_runs", ["started_us", "run_id"])
    op.create_index("ix_gateway_runs_finished_us", "gateway_runs", ["finished_us"])
    op.create_table(
        "gateway_gone_runs", *_text("run_id"), sa.PrimaryKeyConstraint("run_id", name="pk_gateway_gone_runs")
    )
    op.create_table(
        "gateway_slices",
        *_text("run_id", "slice_id", "definition", "conditions"),
        *_flags("is_weak", "is_weak_now"),
        *_text("cause"),
        *_shares("confidence", nullable=True),
        sa.PrimaryKeyConstraint("run_id", "slice_id", name="pk_gateway_slices"),
    )
    op.create_table(
        "gateway_slice_scores",
        *_text("run_id", "slice_id"),
        *_counts("round"),
        *_text("arm"),
        *_counts("n", "correct"),
        *_shares("low", "high"),
        *_flags("is_weak"),
        *_text("cause"),
        *_shares("confidence", nullable=True),
        sa.PrimaryKeyConstraint("run_id", "slice_id", "round", "arm", name="pk_gateway_slice_scores"),
    )
    op.create_table(
        "gateway_dead_letters",
        *_text("letter_id", "run_id", "event_type", "service", "reason"),
        *_counts("at_us", "attempts"),
        sa.Column("letter", sa.LargeBinary(), nullable=False),
        *_counts("replayed_us"),
        *_text("replayed_by", "replay_reason"),
        sa.PrimaryKeyConstraint("letter_id", name="pk_gateway_dead_letters"),
    )
    op.create_index("ix_gateway_dead_letters_run_id", "gateway_dead_letters", ["run_id"])


def downgrade() -> None:
    for table in (
        "gateway_dead_letters",
        "gateway_slice_scores",
        "gateway_slices",
        "gateway_gone_runs",
        "gateway_runs",
        "gateway_places",
        "gateway_events",
    ):
        op.drop_table(table)
