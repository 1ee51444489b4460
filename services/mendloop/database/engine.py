"""Engines for SQLite and PostgreSQL, with the same promises on both: a writer never fails for a reader it met first.

SQLite takes the write lock at the start (BEGIN IMMEDIATE), for a transaction that begins with a read cannot be upgraded
while another writes; `reading(engine)` is for transactions that only read and wait for nobody.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from mendloop.core.errors import InvalidRecipe, Retryable

BUSY_TIMEOUT_S = 30.0
_RETRYABLE_SQLSTATES = ("40001", "40P01", "55P03", "57P01", "57P03", "08000", "08003", "08006")
"""Serialization failure, deadlock, lock not available, shutdown, starting up, connection lost."""


def open_engine(url: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Engine:
    """The engine of a database URL. Raises InvalidRecipe for a URL that is neither SQLite nor PostgreSQL."""
    try:
        parsed = make_url(url)
    except Exception as error:  # SQLAlchemy raises several kinds for a malformed URL
        raise InvalidRecipe(
            f"MENDLOOP_DATABASE_URL cannot be read: {type(error).__name__}; see its description"
        ) from None
    name = parsed.get_backend_name()
    if name == "postgresql":
        return create_engine(
            parsed.set(drivername="postgresql+psycopg"), pool_size=2, max_overflow=8, pool_pre_ping=True
        )
    if name != "sqlite":
        raise InvalidRecipe(
            f"MENDLOOP_DATABASE_URL names {name!r}; it must be sqlite:///PATH or postgresql+psycopg://..."
        )
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed, connect_args={"timeout": busy_timeout_s})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin)
    return engine


def reading(engine: Engine) -> Engine:
    """The same engine for transactions that only read: on SQLite they take no lock that a writer needs."""
    return engine.execution_options(only_reads=True)


@contextmanager
def retryable() -> Iterator[None]:
    """Turns what passes by itself into Retryable: a busy database, a lost connection, a serialization failure."""
    try:
        yield
    except DBAPIError as error:
        state = str(getattr(error.orig, "sqlstate", "") or "")
        is_locked = isinstance(error.orig, sqlite3.OperationalError) and "locked" in str(error.orig)
        is_away = isinstance(error, OperationalError | InterfaceError) and not state and not _is_sqlite(error)
        if error.connection_invalidated or state in _RETRYABLE_SQLSTATES or is_locked or is_away:
            raise Retryable(f"the database is busy or away: {error.orig}") from error
        raise


def _is_sqlite(error: DBAPIError) -> bool:
    return isinstance(error.orig, sqlite3.Error)


def _prepare_sqlite(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # SQLAlchemy begins, not the driver, which would begin too late
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA synchronous=FULL")
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:  # the switch to WAL does not wait for the busy timeout
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin(db: Connection) -> None:
    db.exec_driver_sql("BEGIN" if db.get_execution_options().get("only_reads") else "BEGIN IMMEDIATE")


def insert(db: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that knows ON CONFLICT, in the dialect of the connection."""
    return postgresql.insert(table) if db.dialect.name == "postgresql" else sqlite.insert(table)


def upsert(db: Connection, table: Table, rows: Sequence[dict[str, Any]], *, once: Collection[str] = ()) -> None:
    """Insert rows of the same columns; of a row whose key stands, its other given columns are replaced but for those
    that are written once."""
    statement = insert(db, table)
    fixed = {*once, *(column.name for column in table.primary_key)}
    changes = {name: statement.excluded[name] for name in rows[0] if name not in fixed}
    db.execute(
        statement.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=changes), list(rows)
    )
