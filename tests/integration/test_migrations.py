"""Schemas between releases: a later one is left alone, and the release before finds the place where it stopped."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from releases import previous
from sqlalchemy import Engine, text

from mendloop.controller.adapters import migrate as controller
from mendloop.database.engine import open_engine
from mendloop.database.migrating import migrate
from mendloop.gateway.adapters import migrate as gateway

pytestmark = pytest.mark.integration


@dataclass(frozen=True, slots=True)
class Schema:
    """A service's schema: how it is migrated and where it stands."""

    service: str
    folder: Path
    migrate: Callable[[Engine], None]
    table: str
    first_table: str


SCHEMAS = (
    Schema("controller", controller.MIGRATIONS, controller.migrate, "controller_schema", "alembic_version"),
    Schema("gateway", gateway.MIGRATIONS, gateway.migrate, "gateway_schema", "gateway_version"),
)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/services.db"


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """An empty database."""
    engine = open_engine(url)
    yield engine
    engine.dispose()


def revision(engine: Engine, table: str) -> str:
    with engine.begin() as db:
        return str(db.execute(text(f"SELECT version_num FROM {table}")).scalar_one())


def head(schema: Schema) -> str:
    return max(path.name for path in (schema.folder / "versions").glob("v*.py"))[1:5]


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.service)
def test_schema_of_a_later_release_is_left_alone(schema: Schema, engine: Engine) -> None:
    schema.migrate(engine)
    with engine.begin() as db:
        db.execute(text(f"UPDATE {schema.table} SET version_num = '9999'"))
    schema.migrate(engine)
    assert revision(engine, schema.table) == "9999"


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.service)
def test_what_the_first_release_wrote_is_adopted_and_stays(schema: Schema, engine: Engine) -> None:
    migrate(engine, folder=schema.folder, version_table=schema.first_table, first_version_table="none")
    schema.migrate(engine)
    schema.migrate(engine)
    assert revision(engine, schema.table) == revision(engine, schema.first_table) == head(schema)


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.service)
def test_release_before_starts_on_a_later_schema(schema: Schema, engine: Engine, url: str, tmp_path: Path) -> None:
    before = previous(tmp_path / "before")
    environment = {**os.environ, "PYTHONPATH": str(before.services), "MENDLOOP_DATABASE_URL": url}
    command = [sys.executable, "-m", f"mendloop.{schema.service}", "migrate"]
    first = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    schema.migrate(engine)
    with engine.begin() as db:
        db.execute(text(f"UPDATE {schema.table} SET version_num = '9999'"))  # as a migration that only added
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
