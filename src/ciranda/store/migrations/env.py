"""Alembic's entry: it runs inside the connection and transaction that `store.schema` opened."""

from __future__ import annotations

from alembic import context

from ciranda.store.database import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
    compare_type=True,
)
context.run_migrations()
