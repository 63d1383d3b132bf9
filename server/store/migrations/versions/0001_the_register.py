"""the register"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "mailbox_operator",
        sa.Column("organisation_number", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("adapter", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("organisation_number", name=op.f("mailbox_operator_pkey")),
        sa.UniqueConstraint("adapter", name=op.f("mailbox_operator_adapter_key")),
    )
    op.create_table(
        "person",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("identifier", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reserved", sa.Boolean(), nullable=False),
        sa.Column("reservation_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column("language_updated_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("email_updated_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("email_confirmed_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("email_validated_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("mobile", sa.Text(), nullable=True),
        sa.Column("mobile_updated_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("mobile_confirmed_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("mobile_validated_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("change_number", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("identifier ~ '^[0-9]{11}$'", name=op.f("person_identifier_check")),
        sa.CheckConstraint("language IN ('nb', 'nn', 'en', 'se')", name=op.f("person_language_check")),
        sa.CheckConstraint(
            "status = 'ACTIVE' OR (email IS NULL AND mobile IS NULL AND language IS NULL AND NOT reserved)",
            name=op.f("person_tombstone_check"),
        ),
        sa.CheckConstraint("status IN ('ACTIVE', 'DELETED')", name=op.f("person_status_check")),
        sa.CheckConstraint(
            "(email IS NULL) = (email_updated_time IS NULL)", name=op.f("person_email_updated_check")
        ),
        sa.CheckConstraint(
            "(mobile IS NULL) = (mobile_updated_time IS NULL)", name=op.f("person_mobile_updated_check")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("person_pkey")),
        sa.UniqueConstraint("change_number", name=op.f("person_change_number_key")),
        sa.UniqueConstraint("identifier", name=op.f("person_identifier_key")),
    )
    op.create_table(
        "register",
        sa.Column("id", sa.SmallInteger(), nullable=False),
        sa.Column("epoch", sa.Uuid(), nullable=False),
        sa.Column("caller_key", sa.LargeBinary(), nullable=False),
        sa.Column("last_change_number", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("register_one_row_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("register_pkey")),
    )
    op.create_table(
        "request",
        sa.Column("caller", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Uuid(), nullable=False),
        sa.Column("body_hash", sa.LargeBinary(), nullable=False),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("change_number", sa.BigInteger(), nullable=True),
        sa.Column("affected_count", sa.Integer(), nullable=True),
        sa.Column(
            "created_time", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("caller", "request_id", name=op.f("request_pkey")),
    )
    op.create_index(op.f("request_created_time_idx"), "request", ["created_time"], unique=False)
    op.create_table(
        "delivery",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("person_id", sa.BigInteger(), nullable=False),
        sa.Column("change_number", sa.BigInteger(), nullable=False),
        sa.Column("created_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_before_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("leased_until_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("leased_change_number", sa.BigInteger(), nullable=True),
        sa.Column("failed_attempts", sa.Integer(), nullable=False),
        sa.Column("last_error_code", sa.Text(), nullable=True),
        sa.Column("refused", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["operator"], ["mailbox_operator.organisation_number"], name=op.f("delivery_operator_fkey")
        ),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("delivery_person_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("delivery_pkey")),
        sa.UniqueConstraint("person_id", "operator", name=op.f("delivery_person_id_operator_key")),
    )
    op.create_index(
        "delivery_due_idx",
        "delivery",
        ["operator", "not_before_time"],
        unique=False,
        postgresql_where=sa.text("NOT refused"),
    )
    op.create_table(
        "history",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("person_id", sa.BigInteger(), nullable=False),
        sa.Column("change_number", sa.BigInteger(), nullable=False),
        sa.Column("changed_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("caller_kind", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("history_person_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("history_pkey")),
    )
    op.create_index(op.f("history_person_id_idx"), "history", ["person_id"], unique=False)
    op.create_table(
        "mailbox",
        sa.Column("person_id", sa.BigInteger(), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("certificate", sa.LargeBinary(), nullable=True),
        sa.Column("chosen", sa.Boolean(), nullable=False),
        sa.Column("operator_state", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "operator_state IN ('PENDING', 'IN_STEP', 'NO_ACCOUNT', 'REFUSED')",
            name=op.f("mailbox_operator_state_check"),
        ),
        sa.ForeignKeyConstraint(
            ["operator"], ["mailbox_operator.organisation_number"], name=op.f("mailbox_operator_fkey")
        ),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("mailbox_person_id_fkey")),
        sa.PrimaryKeyConstraint("person_id", "operator", name=op.f("mailbox_pkey")),
    )
    op.create_index(
        "mailbox_one_chosen_idx", "mailbox", ["person_id"], unique=True, postgresql_where=sa.text("chosen")
    )
    op.create_table(
        "message",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("person_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("change_number", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason_code", sa.Text(), nullable=True),
        sa.Column("recipient", sa.Text(), nullable=True),
        sa.Column("receipt_token", sa.Uuid(), nullable=False),
        sa.Column("created_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_before_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("leased_until_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("failed_attempts", sa.Integer(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=True),
        sa.Column("gateway_message_id", sa.Text(), nullable=True),
        sa.Column("sent_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("delivered_time", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("channel IN ('SMS')", name=op.f("message_channel_check")),
        sa.CheckConstraint("kind IN ('MAILBOX_CHOSEN')", name=op.f("message_kind_check")),
        sa.CheckConstraint("language IN ('nb', 'nn', 'en', 'se')", name=op.f("message_language_check")),
        sa.CheckConstraint(
            "state IN ('QUEUED', 'SENT', 'DELIVERED', 'FAILED', 'SUPPRESSED', 'SUPERSEDED')",
            name=op.f("message_state_check"),
        ),
        sa.ForeignKeyConstraint(
            ["operator"], ["mailbox_operator.organisation_number"], name=op.f("message_operator_fkey")
        ),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("message_person_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("message_pkey")),
        sa.UniqueConstraint("change_number", "kind", name=op.f("message_change_number_kind_key")),
        sa.UniqueConstraint("receipt_token", name=op.f("message_receipt_token_key")),
    )
    op.create_index(
        "message_due_idx",
        "message",
        ["channel", "not_before_time"],
        unique=False,
        postgresql_where=sa.text("state = 'QUEUED'"),
    )
    op.create_index(op.f("message_person_id_idx"), "message", ["person_id"], unique=False)
    op.execute(
        "INSERT INTO register (id, epoch, caller_key, last_change_number) "
        "VALUES (1, gen_random_uuid(), uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()), 0)"
    )
    op.bulk_insert(
        sa.table(
            "mailbox_operator", sa.column("organisation_number"), sa.column("name"), sa.column("adapter")
        ),
        [
            {"organisation_number": "984661185", "name": "Digipost", "adapter": "digipost"},
            {"organisation_number": "922020175", "name": "e-Boks", "adapter": "eboks"},
        ],
    )
