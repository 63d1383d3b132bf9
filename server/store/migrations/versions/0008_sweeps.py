"""Sweeps, which compare the register with an operator's side person by person."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "sweep",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("dry_run", sa.Boolean(), nullable=False),
        sa.Column("rolling", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("person_count", sa.BigInteger(), nullable=False),
        sa.Column("compared_count", sa.BigInteger(), nullable=False),
        sa.Column("unread_count", sa.BigInteger(), nullable=False),
        sa.Column("difference_count", sa.BigInteger(), nullable=False),
        sa.Column("repaired_count", sa.BigInteger(), nullable=False),
        sa.Column("max_repairs", sa.BigInteger(), nullable=False),
        sa.Column("began_change_number", sa.BigInteger(), nullable=False),
        sa.Column("above_change_number", sa.BigInteger(), nullable=False),
        sa.Column("next_change_number", sa.BigInteger(), nullable=False),
        sa.Column("started_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_time", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('RUNNING', 'FINISHED', 'STOPPED_AT_CAP', 'ENDED')", name=op.f("sweep_state_check")
        ),
        sa.CheckConstraint("repaired_count <= max_repairs", name=op.f("sweep_cap_check")),
        sa.ForeignKeyConstraint(
            ["operator"], ["mailbox_operator.organisation_number"], name=op.f("sweep_operator_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("sweep_pkey")),
    )
    op.create_index(
        "sweep_one_running_idx",
        "sweep",
        ["operator"],
        unique=True,
        postgresql_where=sa.text("state = 'RUNNING'"),
    )
    op.create_table(
        "comparison",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("sweep_id", sa.BigInteger(), nullable=False),
        sa.Column("person_id", sa.BigInteger(), nullable=True),
        sa.Column("after_identifier", sa.Text(), nullable=True),
        sa.Column("change_number", sa.BigInteger(), nullable=False),
        sa.Column("not_before_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("leased_until_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("failed_attempts", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "(person_id IS NULL) <> (after_identifier IS NULL)", name=op.f("comparison_subject_check")
        ),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweep.id"], name=op.f("comparison_sweep_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("comparison_pkey")),
        sa.UniqueConstraint("sweep_id", "person_id", name=op.f("comparison_sweep_id_person_id_key")),
    )
    op.create_table(
        "sweep_difference",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("sweep_id", sa.BigInteger(), nullable=False),
        sa.Column("person_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("change_number", sa.BigInteger(), nullable=False),
        sa.Column("not_repaired_reason", sa.Text(), nullable=True),
        sa.Column("found_time", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "kind IN ('RECEIVES_WRONGLY', 'DOES_NOT_RECEIVE', 'MAILBOX_GONE', 'MAILBOX_MISSING',"
            " 'ADDRESS', 'CERTIFICATE')",
            name=op.f("sweep_difference_kind_check"),
        ),
        sa.CheckConstraint(
            "not_repaired_reason IN ('DRY_RUN', 'CAP', 'DELIVERY_REFUSED', 'NOT_ALLOWED')",
            name=op.f("sweep_difference_not_repaired_reason_check"),
        ),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweep.id"], name=op.f("sweep_difference_sweep_id_fkey")),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("sweep_difference_person_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("sweep_difference_pkey")),
    )
    op.create_index("sweep_difference_sweep_id_idx", "sweep_difference", ["sweep_id"])
