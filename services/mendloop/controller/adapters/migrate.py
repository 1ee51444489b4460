"""The controller's schema."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine

from mendloop.database import migrating

MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(engine: Engine) -> None:
    """Bring the controller's tables up to date. Raises Retryable where the database is busy or away."""
    migrating.migrate(
        engine, folder=MIGRATIONS, version_table="controller_schema", first_version_table="alembic_version"
    )
