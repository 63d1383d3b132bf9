"""An index on the many rows of person, built while others write.

Outside a transaction: one that was cut off half-way is run again from the start.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index("person_unencoded_idx", "person", if_exists=True, postgresql_concurrently=True)
        op.create_index(
            "person_unencoded_idx",
            "person",
            ["id"],
            postgresql_where=sa.text("encoded IS NULL"),
            postgresql_concurrently=True,
        )
