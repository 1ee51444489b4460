"""Applies migrations with Alembic. Imported only where one is missing: Alembic takes 7 MB and .3 s."""

from __future__ import annotations

import zlib
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text

from mendloop.database.engine import retryable


def upgrade(engine: Engine, *, folder: Path, version_table: str) -> None:
    """Apply the missing migrations of a folder in one transaction; version_table remembers how far they are.

    Raises Retryable where the database is busy or away.
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
