"""The SQL tables of the controller: one a record of `domain.records`, columns named as its fields.

Nested values are JSON; messages are kept byte for byte. Knows columns; knows no decision.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)


def _run_id() -> Column[str]:
    return Column("run_id", Text, ForeignKey("runs.run_id"), primary_key=True)


def _key(name: str) -> Column[str]:
    return Column(name, Text, primary_key=True)


def _number(name: str) -> Column[int]:
    return Column(name, Integer, primary_key=True, autoincrement=False)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _json(name: str) -> Column[object]:
    return Column(name, JSON, nullable=False)


def _float(name: str) -> Column[float]:
    return Column(name, Float(53), nullable=False)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False)


def _bytes(name: str) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=False)


runs = Table(
    "runs",
    metadata,
    Column("run_id", Text, primary_key=True),
    _float("started_at"),
    _bytes("request"),
    _text("ending"),
    _text("ending_reason"),
    Column("outcome", Text, nullable=False, index=True),
    _text("summary"),
    _float("finished_at"),
)

rounds = Table(
    "rounds",
    metadata,
    _run_id(),
    _number("round"),
    _key("arm"),
    _text("plan_id"),
    _text("baseline"),
    _text("candidate"),
    _text("decision"),
    _text("reason"),
    _float("decided_at"),
)

evaluations = Table(
    "evaluations",
    metadata,
    _run_id(),
    _number("round"),
    _key("arm"),
    _key("plan_id"),
    _text("evaluation_id"),
    _text("kind"),
    _text("checkpoint"),
    _count("weak_slice_count"),
    _count("correct"),
    _count("n"),
    _flag("has_training_report"),
    _json("cost"),
    _bytes("event"),
)

diagnoses = Table(
    "diagnoses",
    metadata,
    _run_id(),
    _number("round"),
    _key("arm"),
    _key("evaluation_id"),
    _key("slice_id"),
    _json("conditions"),
    _text("cause"),
    _float("confidence"),
    _text("kind"),
    _json("fixes"),
    _count("failed_count"),
    _json("cost"),
    _bytes("event"),
)

trainings = Table(
    "trainings",
    metadata,
    _run_id(),
    _number("round"),
    _key("arm"),
    _key("plan_id"),
    _text("checkpoint"),
    _json("cost"),
)

batches = Table(
    "batches",
    metadata,
    _run_id(),
    _key("plan_id"),
    _count("example_count"),
    _text("manifest"),
    _text("reason"),
    _json("cost"),
    _flag("has_corpus"),
    _bytes("event"),
)

approvals = Table(
    "approvals",
    metadata,
    _run_id(),
    _key("plan_id"),
    _flag("approved"),
    _text("approved_by"),
    _text("reason"),
    _float("given_at"),
)

reviews = Table(
    "reviews",
    metadata,
    _run_id(),
    _key("plan_id"),
    _flag("approved"),
    _text("reviewed_by"),
    _text("reason"),
    _count("example_count"),
    _float("given_at"),
    _bytes("event"),
)

plans = Table(
    "plans",
    metadata,
    _run_id(),
    _number("round"),
    _key("arm"),
    _text("plan_id"),
    _text("kind"),
    _text("state"),
    _json("targets"),
    _count("baseline_round"),
    _float("replay_share"),
    _bytes("event"),
)

reservations = Table(
    "reservations",
    metadata,
    _run_id(),
    _key("plan_id"),
    _key("resource"),
    _float("amount"),
    _float("used"),
    _flag("is_settled"),
)

gates = Table(
    "gates",
    metadata,
    _run_id(),
    _number("round"),
    _key("arm"),
    _number("position"),
    _text("gate"),
    _json("conditions"),
    _flag("passed"),
    _count("n"),
    _float("before"),
    _float("after"),
    _float("low"),
    _float("high"),
    _float("p_value"),
    _text("requirement"),
)

sealed_queries = Table(
    "sealed_queries",
    metadata,
    _run_id(),
    _number("round"),
    _key("arm"),
    Column("suite", Text, nullable=False, index=True),
    _flag("is_told"),
    _float("asked_at"),
)

steerings = Table(
    "steerings",
    metadata,
    _run_id(),
    _number("number"),
    _text("action"),
    _text("steered_by"),
    _text("reason"),
    _float("given_at"),
)

arms = Table(
    "arms",
    metadata,
    _run_id(),
    _number("round"),
    _key("arm"),
    _text("plan_id"),
    _text("state"),
    _text("reason"),
    _text("checkpoint"),
    _float("decided_at"),
)

arm_differences = Table(
    "arm_differences",
    metadata,
    _run_id(),
    _number("round"),
    _key("arm"),
    _number("position"),
    _json("conditions"),
    _count("n"),
    _count("only_main"),
    _count("only_control"),
    _count("both"),
    _float("low"),
    _float("high"),
    _float("p_value"),
)

arm_failures = Table(
    "arm_failures",
    metadata,
    _run_id(),
    _number("round"),
    _key("arm"),
    _text("handler"),
    _text("reason"),
)

handled_events = Table(
    "handled_events",
    metadata,
    _key("event_id"),
    Column("run_id", Text, ForeignKey("runs.run_id"), nullable=False, index=True),
    _text("event_type"),
    _float("handled_at"),
    _json("outputs"),
)
