"""Brings a database to the newest schema. Safe when several replicas start at once: one migrates, the others wait."""

from __future__ import annotations

import zlib
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text

from mendloop.database.engine import retryable


def migrate(engine: Engine, *, folder: Path, version_table: str) -> None:
    """Apply the missing migrations of a folder in one transaction; version_table remembers how far they are.

    Services that share a database have a version table each. Raises Retryable where the database is busy or away.
    """
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    with retryable(), engine.begin() as db:
        if db.dialect.name == "postgresql":
            lock = zlib.crc32(f"mendloop/{version_table}".encode())
            db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock})
        config.attributes["connection"] = db
        config.attributes["version_table"] = version_table
        command.upgrade(config, "head")
