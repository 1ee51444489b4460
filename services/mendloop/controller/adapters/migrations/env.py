"""Alembic's environment: migrates the connection that `migrate` hands over, inside its transaction."""

from __future__ import annotations

from alembic import context

from mendloop.controller.adapters.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
