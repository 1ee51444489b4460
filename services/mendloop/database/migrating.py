"""Brings a database to the newest schema. Safe when several replicas start at once: one migrates, the others wait.

Revisions are numbers in one line, and migrations only add: the schema of a later release holds that of an earlier one,
which works on it after a rollback, or beside the later one during an upgrade.
"""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import Engine, Text, column, inspect, select, table

from mendloop.database.engine import reading, retryable

log = logging.getLogger(__name__)


def migrate(engine: Engine, *, folder: Path, version_table: str, first_version_table: str) -> None:
    """Apply the missing migrations of a folder; version_table remembers how far they are.

    first_version_table is where release 0.1.0 remembered it. That release refuses to start where a revision stands
    there that it does not know, so what it wrote stays as it is and a rollback to it works. A schema of a later release
    is left alone. Services that share a database have tables of their own. Raises Retryable where the database is busy
    or away.
    """
    stands, newest = _version(engine, version_table), _newest(folder)
    if stands > newest:
        log.warning("the schema is of a later release", extra={"schema": stands, "known": newest})
    if stands >= newest:
        return
    from mendloop.database.upgrading import upgrade  # see there

    upgrade(engine, folder=folder, newest=newest, version_table=version_table, first_version_table=first_version_table)


def _version(engine: Engine, version_table: str) -> str:
    asked = select(column("version_num", Text())).select_from(table(version_table))
    with retryable(), reading(engine).begin() as db:
        return str(db.execute(asked).scalar()) if inspect(db).has_table(version_table) else ""


def _newest(folder: Path) -> str:
    """The revision of the last migration: files are named vREVISION_what.py."""
    return max(path.name.removeprefix("v").partition("_")[0] for path in (folder / "versions").glob("v*.py"))
