"""Run by Alembic for each upgrade: on the connection, and in the transaction, that it is given."""

from __future__ import annotations

from alembic import context

from flowtally.stores.sql.tables import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    # Every change of one upgrade is in the one transaction that holds the lock.
    transactional_ddl=False,
)
context.run_migrations()
