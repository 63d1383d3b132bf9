"""Alembic's entry: run the migrations on the connection handed over by store.schema."""

from alembic import context

from server.store.campaign_tables import campaign
from server.store.message_tables import message
from server.store.sweep_tables import sweep

# One, of which each module of tables has a part.
assert message.metadata is campaign.metadata is sweep.metadata
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=sweep.metadata,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
