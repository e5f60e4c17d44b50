"""What Alembic runs: the steps, on the connection and in the transaction that :meth:`Ledger.migrate` opened."""

from __future__ import annotations

from alembic import context

from include.governance.tables import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
