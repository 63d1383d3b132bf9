"""Persons ready to be sent, and imports.

Code from before goes on to work: it writes persons without `encoded`, and where it changes one
that has it, the trigger takes it away.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("person", sa.Column("encoded", sa.LargeBinary(), nullable=True))
    op.execute("""
        CREATE FUNCTION forget_stale_encoded() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN
            NEW.encoded := NULL;
            RETURN NEW;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER forget_stale_encoded BEFORE UPDATE ON person FOR EACH ROW
        WHEN (substr(NEW.encoded, 1, 8) <> int8send(NEW.change_number))
        EXECUTE FUNCTION forget_stale_encoded()
    """)
    op.create_table(
        "person_import",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("check_only", sa.Boolean(), nullable=False),
        sa.Column("received_row", sa.BigInteger(), nullable=False),
        sa.Column("loaded_count", sa.BigInteger(), nullable=False),
        sa.Column("present_count", sa.BigInteger(), nullable=False),
        sa.Column("rejected_count", sa.BigInteger(), nullable=False),
        sa.Column("created_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_time", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("person_import_pkey")),
    )
    op.create_table(
        "person_import_chunk",
        sa.Column("import_id", sa.Uuid(), nullable=False),
        sa.Column("first_change_number", sa.BigInteger(), nullable=False),
        sa.Column("last_change_number", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["import_id"],
            ["person_import.id"],
            name=op.f("person_import_chunk_import_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("import_id", "first_change_number", name=op.f("person_import_chunk_pkey")),
    )
    op.create_table(
        "person_import_rejection",
        sa.Column("import_id", sa.Uuid(), nullable=False),
        sa.Column("row", sa.BigInteger(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["import_id"],
            ["person_import.id"],
            name=op.f("person_import_rejection_import_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("import_id", "row", name=op.f("person_import_rejection_pkey")),
    )
