"""Brings a database to the newest schema. Safe when several replicas start at once: one migrates, the others wait."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, column, inspect, select, table

from mendloop.database.engine import reading, retryable


def migrate(engine: Engine, *, folder: Path, version_table: str) -> None:
    """Apply the missing migrations of a folder; version_table remembers how far they are.

    Services that share a database have a version table each. Raises Retryable where the database is busy or away.
    """
    if _version(engine, version_table) == _newest(folder):
        return
    from mendloop.database.upgrading import upgrade  # see there

    upgrade(engine, folder=folder, version_table=version_table)


def _version(engine: Engine, version_table: str) -> str:
    asked = select(column("version_num")).select_from(table(version_table))
    with retryable(), reading(engine).begin() as db:
        return str(db.execute(asked).scalar()) if inspect(db).has_table(version_table) else ""


def _newest(folder: Path) -> str:
    """The revision of the last migration: files are named vREVISION_what.py."""
    return max(path.name.removeprefix("v").partition("_")[0] for path in (folder / "versions").glob("v*.py"))
