"""Indexes on the many rows of person, built while others write.

Outside a transaction: one that was cut off half-way is run again from the start.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE person VALIDATE CONSTRAINT person_deletion_reason_check")
        for kind in ("email", "mobile"):
            digest = f"{kind}_digest"
            _build(f"person_{kind}_digest_idx", [digest, f"{kind}_shared"], f"{digest} IS NOT NULL")
            _build(f"person_{kind}_undigested_idx", ["id"], f"{kind} IS NOT NULL AND {digest} IS NULL")


def _build(name: str, columns: list[str], where: str) -> None:
    op.drop_index(name, "person", if_exists=True, postgresql_concurrently=True)
    op.create_index(name, "person", columns, postgresql_where=sa.text(where), postgresql_concurrently=True)
