"""Messages in three channels, to organisations too; their receipts, one-time codes, reminders.

Code before this goes on writing and leasing what it knows: choices by SMS. A text message of another
kind that it leases waits until the lease runs out.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    _alter_messages()
    _widen_checks()
    _create_tables()
    # Persons are many: what stands there is looked at by the next migration, beside writers.
    op.drop_constraint(op.f("person_deletion_reason_check"), "person")
    op.execute(
        "ALTER TABLE person ADD CONSTRAINT person_deletion_reason_check CHECK (deletion_reason IN "
        "('OWN_CHOICE', 'DEAD', 'EXPIRED_IDENTITY', 'NEW_IDENTITY', 'DISAPPEARED', 'SHARED_CONTACT')) "
        "NOT VALID"
    )


def _alter_messages() -> None:
    op.add_column("message", sa.Column("number", sa.BigInteger(), nullable=True))
    op.execute(
        "UPDATE message SET number = counted.number FROM (SELECT id, row_number() OVER "
        "(ORDER BY change_number) AS number FROM message) AS counted WHERE counted.id = message.id"
    )
    op.alter_column("message", "number", nullable=False)
    op.execute("ALTER TABLE message ALTER number ADD GENERATED ALWAYS AS IDENTITY")
    op.execute(
        "SELECT setval(pg_get_serial_sequence('message', 'number'), "
        "coalesce(max(number), 1), max(number) IS NOT NULL) FROM message"
    )
    op.create_unique_constraint(op.f("message_number_key"), "message", ["number"])
    for column in ("person_id", "operator", "change_number"):
        op.alter_column("message", column, nullable=True)
    for added in (
        sa.Column("contact_kind", sa.Text()),
        sa.Column("deadline_date", sa.Date()),
        sa.Column("case_count", sa.Integer()),
        sa.Column("synthetic", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column(
            "expires_time",
            sa.DateTime(timezone=True),
            server_default=sa.text("now() + interval '3 days'"),
            nullable=False,
        ),
        sa.Column("unsure_attempts", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("parts", sa.SmallInteger()),
        sa.Column("cost_class", sa.Text()),
    ):
        op.add_column("message", added)
    op.drop_constraint(op.f("message_change_number_kind_key"), "message")
    op.create_unique_constraint(
        op.f("message_change_number_kind_channel_key"), "message", ["change_number", "kind", "channel"]
    )
    op.create_index(
        "message_gateway_idx",
        "message",
        ["gateway", "gateway_message_id"],
        postgresql_where=sa.text("gateway_message_id IS NOT NULL"),
    )


def _widen_checks() -> None:
    op.drop_constraint(op.f("message_kind_check"), "message")
    op.create_check_constraint(
        op.f("message_kind_check"),
        "message",
        "kind IN ('MAILBOX_CHOSEN', 'VERIFICATION_CODE', 'CONTACT_CHANGED', 'CONTACT_REMINDER', "
        "'CONTACT_EXPIRED', 'SHARED_CONTACT_NOTICE', 'SHARED_CONTACT_LETTER')",
    )
    op.drop_constraint(op.f("message_channel_check"), "message")
    op.create_check_constraint(
        op.f("message_channel_check"), "message", "channel IN ('SMS', 'EMAIL', 'LETTER')"
    )
    op.create_check_constraint(
        op.f("message_contact_kind_check"), "message", "contact_kind IN ('email', 'mobile')"
    )
    op.create_check_constraint(
        op.f("message_cost_class_check"),
        "message",
        "cost_class IN ('EMAIL', 'SMS_DOMESTIC', 'SMS_FOREIGN', 'LETTER')",
    )


def _create_tables() -> None:
    op.create_table(
        "early_receipt",
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("gateway_message_id", sa.Text(), nullable=False),
        sa.Column("failure", sa.Text()),
        sa.Column("received_time", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("channel", "gateway", "gateway_message_id", name=op.f("early_receipt_pkey")),
    )
    op.create_index(op.f("early_receipt_received_time_idx"), "early_receipt", ["received_time"])
    op.create_table(
        "verification_code",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("person_id", sa.BigInteger(), nullable=False),
        sa.Column("contact_kind", sa.Text(), nullable=False),
        sa.Column("value_digest", sa.LargeBinary(), nullable=False),
        sa.Column("created_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("wrong_tries", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("ended_time", sa.DateTime(timezone=True)),
        sa.CheckConstraint(
            "contact_kind IN ('email', 'mobile')", name=op.f("verification_code_contact_kind_check")
        ),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("verification_code_person_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("verification_code_pkey")),
    )
    op.create_index(op.f("verification_code_person_id_idx"), "verification_code", ["person_id"])
    op.create_index(op.f("verification_code_value_digest_idx"), "verification_code", ["value_digest"])
    op.create_table(
        "contact_reminder",
        sa.Column("person_id", sa.BigInteger(), nullable=False),
        sa.Column("contact_kind", sa.Text(), nullable=False),
        sa.Column("step_months", sa.SmallInteger(), nullable=False),
        sa.Column("last_seen_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_time", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "contact_kind IN ('email', 'mobile')", name=op.f("contact_reminder_contact_kind_check")
        ),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("contact_reminder_person_id_fkey")),
        sa.PrimaryKeyConstraint(
            "person_id", "contact_kind", "step_months", "last_seen_time", name=op.f("contact_reminder_pkey")
        ),
    )
