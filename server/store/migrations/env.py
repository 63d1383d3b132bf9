"""Alembic's entry: run the migrations on the connection handed over by store.schema."""

from alembic import context

from server.store.sweep_tables import sweep

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=sweep.metadata,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
