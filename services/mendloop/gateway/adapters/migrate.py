"""The gateway's schema."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine

from mendloop.database import migrating

MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(engine: Engine) -> None:
    """Bring the gateway's tables up to date. Raises Retryable where the database is busy or away."""
    migrating.migrate(engine, folder=MIGRATIONS, version_table="gateway_schema", first_version_table="gateway_version")
