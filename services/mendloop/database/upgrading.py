"""Applies migrations with Alembic. Imported only where one is missing: Alembic takes 7 MB and .3 s."""

from __future__ import annotations

import zlib
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, inspect, text

from mendloop.database.engine import retryable


def upgrade(engine: Engine, *, folder: Path, newest: str, version_table: str, first_version_table: str) -> None:
    """Apply the missing migrations of a folder, of which newest is the last, in one transaction.

    version_table remembers how far they are, first_version_table where release 0.1.0 left them. Raises Retryable where
    the database is busy or away.
    """
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    with retryable(), engine.begin() as db:
        if db.dialect.name == "postgresql":
            lock = zlib.crc32(f"mendloop/{first_version_table}".encode())  # the name that all releases lock
            db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock})
        _adopt(db, version_table=version_table, first=first_version_table)
        context = MigrationContext.configure(db, opts={"version_table": version_table})
        if (context.get_current_revision() or "") >= newest:  # another replica, or release, was first
            return
        config.attributes["connection"] = db
        config.attributes["version_table"] = version_table
        command.upgrade(config, "head")


def _adopt(db: Connection, *, version_table: str, first: str) -> None:
    """Begin where release 0.1.0 stood."""
    found = inspect(db)
    if found.has_table(first) and not found.has_table(version_table):
        db.execute(text(f"CREATE TABLE {version_table} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
        db.execute(text(f"INSERT INTO {version_table} SELECT version_num FROM {first}"))
