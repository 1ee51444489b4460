"""The tables of the read model: events as they were committed, and what lists and searches need of runs.

Times are microseconds since 1970, 0 where an event carries none. Nested values are JSON text, for a number that is NaN
or a NUL in somebody's event must not stop the feed. Everything here can be made anew from the log, but for who replayed
a dead letter and why. `began` of a run is the cursor before its first event.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, LargeBinary, Table, Text, UniqueConstraint

from mendloop.gateway.adapters.tables import metadata


def _key(name: str) -> Column[str]:
    return Column(name, Text, primary_key=True)


def _number_key(name: str) -> Column[int]:
    return Column(name, BigInteger, primary_key=True, autoincrement=False)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _share(name: str, *, is_known: bool = True) -> Column[float]:
    return Column(name, Float(53), nullable=not is_known)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False)


events = Table(
    "gateway_events",
    metadata,
    Column("serial", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    _text("topic"),
    _count("part"),
    _count("pos"),
    _text("run_id"),
    _text("event_type"),
    _text("event_id"),
    _count("at_us"),
    _count("round"),
    _text("arm"),
    _text("slice_id"),
    _text("cause"),
    _text("event_key"),
    _text("headers"),
    Column("value", LargeBinary, nullable=False),
    UniqueConstraint("topic", "part", "pos", name="uq_gateway_events_place"),
    Index("ix_gateway_events_run", "run_id", "serial"),
)

places = Table("gateway_places", metadata, _key("topic"), _number_key("part"), _count("next_pos"))
"""Up to where the log is written down: the cursor of a restart."""

runs = Table(
    "gateway_runs",
    metadata,
    _key("run_id"),
    _text("recipe"),
    _text("task"),
    _text("state"),
    _text("stage"),
    _count("round"),
    _text("outcome"),
    _text("requested_by"),
    _count("started_us"),
    _count("finished_us"),
    _count("updated_us"),
    _share("accuracy_before", is_known=False),
    _share("accuracy_after", is_known=False),
    _count("dead_letter_count"),
    _text("cost"),
    _text("summary"),
    _text("search"),
    _text("facts"),
    _count("event_count"),
    Column("began", Text, nullable=False, server_default=""),
    Index("ix_gateway_runs_started_us", "started_us", "run_id"),
    Index("ix_gateway_runs_finished_us", "finished_us"),
)

gone_runs = Table("gateway_gone_runs", metadata, _key("run_id"))
"""Runs that were let go: what still comes of them changes nothing."""

slices = Table(
    "gateway_slices",
    metadata,
    _key("run_id"),
    _key("slice_id"),
    _text("definition"),
    _text("conditions"),
    _flag("is_weak"),
    _flag("is_weak_now"),
    _text("cause"),
    _share("confidence", is_known=False),
)

slice_scores = Table(
    "gateway_slice_scores",
    metadata,
    _key("run_id"),
    _key("slice_id"),
    _number_key("round"),
    _key("arm"),
    _count("n"),
    _count("correct"),
    _share("low"),
    _share("high"),
    _flag("is_weak"),
    _text("cause"),
    _share("confidence", is_known=False),
)

promises = Table(
    "gateway_promises",
    metadata,
    _key("checkpoint"),
    _text("run_id"),
    _text("evaluation_id"),
    _count("promised_us"),
    _text("lows"),
    _count("regressed"),
)
"""Promoted checkpoints: the lower end of each slice's interval then, and how many slices were measured below since."""

verdict_cases = Table(
    "gateway_verdict_cases",
    metadata,
    _key("run_id"),
    _number_key("round"),
    _key("slice_id"),
    _count("decided_us"),
    _share("confidence"),
    _flag("improved"),
    Index("ix_gateway_verdict_cases_decided_us", "decided_us"),
)
"""Verdicts that were acted on, and whether their slice improved."""

dead_letters = Table(
    "gateway_dead_letters",
    metadata,
    _key("letter_id"),
    Column("run_id", Text, nullable=False, index=True),
    _text("event_type"),
    _text("service"),
    _text("reason"),
    _count("at_us"),
    _count("attempts"),
    Column("letter", LargeBinary, nullable=False),
    _count("replayed_us"),
    _text("replayed_by"),
    _text("replay_reason"),
)
