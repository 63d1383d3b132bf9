"""Accounts that operators open at a citizen's choice.

Code before this knows no such request. While servers of both run, one of the old may hand the
delivery to an adapter without it, and take the request away: the citizen then has to choose again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column(
        "mailbox_operator",
        sa.Column("opens_accounts", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.execute("UPDATE mailbox_operator SET opens_accounts = true WHERE adapter = 'digipost'")
    op.add_column(
        "delivery",
        sa.Column("open_account", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
