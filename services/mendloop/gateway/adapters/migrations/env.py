"""Alembic's environment: migrates the connection that `migrate` hands over, inside its transaction."""

from __future__ import annotations

from alembic import context

from mendloop.gateway.adapters import access_tables, hook_tables, run_tables
from mendloop.gateway.adapters.tables import metadata

_TABLES = (access_tables, hook_tables, run_tables)  # imported, so that metadata has them
_GIVEN = context.config.attributes
context.configure(connection=_GIVEN["connection"], target_metadata=metadata, version_table=_GIVEN["version_table"])
with context.begin_transaction():
    context.run_migrations()
