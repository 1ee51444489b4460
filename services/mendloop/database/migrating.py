"""Brings a database to the newest schema. Safe when several replicas start at once: one migrates, the others wait.

Revisions are numbers in one line, and migrations only add: the schema of a later release holds that of an earlier one,
which works on it after a rollback, or beside the later one during an upgrade.
"""

from __future__ import annotations

import logging
import zlib
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text

from mendloop.database.engine import retryable

log = logging.getLogger(__name__)


def migrate(engine: Engine, *, folder: Path, version_table: str, first_version_table: str) -> None:
    """Apply the missing migrations of a folder in one transaction; version_table remembers how far they are.

    first_version_table is where release 0.1.0 remembered it. That release refuses to start where a revision stands
    there that it does not know, so what it wrote stays as it is and a rollback to it works.
    Services that share a database have tables of their own. A schema of a later release is left alone.
    Raises Retryable where the database is busy or away.
    """
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    with retryable(), engine.begin() as db:
        if db.dialect.name == "postgresql":
            lock = zlib.crc32(f"mendloop/{first_version_table}".encode())  # the name that all releases lock
            db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock})
        _adopt(db, version_table=version_table, first=first_version_table)
        if _is_of_a_later_release(db, config, version_table=version_table):
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


def _is_of_a_later_release(db: Connection, config: Config, *, version_table: str) -> bool:
    ours = ScriptDirectory.from_config(config).get_current_head() or ""
    theirs = MigrationContext.configure(db, opts={"version_table": version_table}).get_current_revision() or ""
    if theirs <= ours:
        return False
    log.warning("the schema is of a later release", extra={"table": version_table, "schema": theirs, "known": ours})
    return True
