"""What Alembic runs: the connection comes from the store, which holds the write lock."""

from __future__ import annotations

from alembic import context

from boardfront.latency_models.store_engine import VERSION_TABLE
from boardfront.latency_models.store_schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
