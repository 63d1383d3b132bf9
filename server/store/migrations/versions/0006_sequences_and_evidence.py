"""Sequences of operators' events, and evidence.

Code from before goes on to work; what it takes from operators is checked against no sequence.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "mailbox_sequence",
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("person_key", sa.LargeBinary(), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["operator"],
            ["mailbox_operator.organisation_number"],
            name=op.f("mailbox_sequence_operator_fkey"),
        ),
        sa.PrimaryKeyConstraint("operator", "person_key", name=op.f("mailbox_sequence_pkey")),
    )
    op.create_table(
        "mailbox_evidence",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("person_id", sa.BigInteger(), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("change_number", sa.BigInteger(), nullable=False),
        sa.Column("eid", sa.Text(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("agreed_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("agreed_text_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("occurred_time", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "level IN ('LOW', 'SUBSTANTIAL', 'HIGH')", name=op.f("mailbox_evidence_level_check")
        ),
        sa.ForeignKeyConstraint(
            ["operator"],
            ["mailbox_operator.organisation_number"],
            name=op.f("mailbox_evidence_operator_fkey"),
        ),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("mailbox_evidence_person_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("mailbox_evidence_pkey")),
    )
    op.create_index(op.f("mailbox_evidence_person_id_idx"), "mailbox_evidence", ["person_id"])
