"""Brings a database to the newest schema. Safe when several replicas start at once: one migrates, the others wait."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text

from mendloop.controller.adapters.sql import retryable

MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x6D656E64  # "mend": any number that no other program on the database uses


def migrate(engine: Engine) -> None:
    """Apply the missing migrations in one transaction. Raises Retryable where the database is busy or away."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    with retryable(), engine.begin() as db:
        if db.dialect.name == "postgresql":
            db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        config.attributes["connection"] = db
        command.upgrade(config, "head")
