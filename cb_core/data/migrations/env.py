"""Run migrations on the connection that `cb_core.data.database` opened, inside its transaction."""

from __future__ import annotations

from alembic import context

from cb_core.data import schema
from cb_core.data.base import Base

assert schema.Video.metadata is Base.metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
