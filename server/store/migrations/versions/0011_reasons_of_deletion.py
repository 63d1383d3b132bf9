"""Looks at all persons for the reasons of deletion that 0010 allows, without holding up writers."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.execute("ALTER TABLE person VALIDATE CONSTRAINT person_deletion_reason_check")
