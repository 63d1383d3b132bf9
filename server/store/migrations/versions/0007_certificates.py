"""Certificates of mailbox operators and for print, with a count of changes of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "certificate_counter",
        sa.Column("id", sa.SmallInteger(), nullable=False),
        sa.Column("last_change_number", sa.BigInteger(), nullable=False),
        sa.Column("warned_time", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("id = 1", name=op.f("certificate_counter_one_row_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("certificate_counter_pkey")),
    )
    op.execute("INSERT INTO certificate_counter (id, last_change_number) VALUES (1, 0)")
    op.create_table(
        "certificate",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("use", sa.Text(), nullable=False),
        sa.Column("organisation_number", sa.Text(), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("valid_from_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("valid_until_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("use_from_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("added_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("added_change_number", sa.BigInteger(), nullable=False),
        sa.Column("retired_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retired_change_number", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("use IN ('MAILBOX', 'PRINT')", name=op.f("certificate_use_check")),
        sa.CheckConstraint(
            "(retired_time IS NULL) = (retired_change_number IS NULL)",
            name=op.f("certificate_retired_check"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("certificate_pkey")),
        sa.UniqueConstraint("added_change_number", name=op.f("certificate_added_change_number_key")),
        sa.UniqueConstraint("retired_change_number", name=op.f("certificate_retired_change_number_key")),
        sa.UniqueConstraint("use", "sha256", name=op.f("certificate_use_sha256_key")),
    )
