"""The tables of messages to people, their receipts and one-time codes."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    false,
    func,
    text,
)

from server.domain.contact import ContactKind
from server.domain.message import Channel, MessageKind
from server.domain.person import Language
from server.store.tables import metadata, one_of, time_column

# The record of what was said to whom: one row per message, kept. recipient is set when it is
# written or leased, and erased with the person.
message = Table(
    "message",
    metadata,
    Column("id", Uuid, primary_key=True),
    # In which order they were written.
    Column("number", BigInteger, Identity(always=True), nullable=False, unique=True),
    # NULL for a message to an organisation.
    Column("person_id", ForeignKey("person.id"), index=True),
    Column("kind", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("operator", ForeignKey("mailbox_operator.organisation_number")),
    Column("language", Text, nullable=False),
    # Of the change that caused it, where one did.
    Column("change_number", BigInteger),
    Column("contact_kind", Text),
    Column("deadline_date", Date),
    Column("case_count", Integer),
    # Whether an organisation's message is about synthetic persons.
    Column("synthetic", Boolean, nullable=False, server_default=false()),
    Column("state", Text, nullable=False),
    Column("reason_code", Text),
    Column("recipient", Text),
    Column("receipt_token", Uuid, nullable=False, unique=True),
    time_column("created_time", nullable=False),
    time_column("not_before_time", nullable=False),
    Column(
        "expires_time",
        DateTime(timezone=True),
        nullable=False,
        server_default=text("now() + interval '3 days'"),
    ),
    time_column("leased_until_time"),
    Column("lease_token", Uuid),
    Column("failed_attempts", Integer, nullable=False),
    # After how many of them nobody knew whether the gateway had taken it.
    Column("unsure_attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("gateway", Text),
    Column("gateway_message_id", Text),
    Column("parts", SmallInteger),
    Column("cost_class", Text),
    time_column("sent_time"),
    time_column("delivered_time"),
    # W3C traceparent of the call that caused it.
    Column("trace_parent", Text),
    one_of("kind", *MessageKind),
    one_of("channel", *Channel),
    one_of("language", *Language),
    one_of("contact_kind", *ContactKind),
    one_of("cost_class", "EMAIL", "SMS_DOMESTIC", "SMS_FOREIGN", "LETTER"),
    one_of("state", "QUEUED", "SENT", "DELIVERED", "FAILED", "SUPPRESSED", "SUPERSEDED"),
    # A change that replaces both e-mail and mobile is told at both.
    UniqueConstraint("change_number", "kind", "channel"),
    Index("message_due_idx", "channel", "not_before_time", postgresql_where=text("state = 'QUEUED'")),
    Index(
        "message_gateway_idx",
        "gateway",
        "gateway_message_id",
        postgresql_where=text("gateway_message_id IS NOT NULL"),
    ),
)

# Receipts that named a gateway's id which no message has yet: they came before the outcome.
early_receipt = Table(
    "early_receipt",
    metadata,
    Column("channel", Text, primary_key=True),
    Column("gateway", Text, primary_key=True),
    Column("gateway_message_id", Text, primary_key=True),
    # NULL where the message arrived.
    Column("failure", Text),
    Column("received_time", DateTime(timezone=True), nullable=False, server_default=func.now(), index=True),
)

# One-time codes that were sent, kept for the limits on how many. The code itself is nowhere: it is
# made from the id, the value and the register's key, for the message and again for the check. id is
# the message's, which knows the exact value; value_digest is of its comparable form.
verification_code = Table(
    "verification_code",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("person_id", ForeignKey("person.id"), nullable=False, index=True),
    Column("contact_kind", Text, nullable=False),
    Column("value_digest", LargeBinary, nullable=False, index=True),
    time_column("created_time", nullable=False),
    time_column("expires_time", nullable=False),
    Column("wrong_tries", SmallInteger, nullable=False, server_default=text("0")),
    # When it proved the value, or another one took its place.
    time_column("ended_time"),
    one_of("contact_kind", *ContactKind),
)

# Reminders that were written, one for each step of each contact point, so that none comes twice.
contact_reminder = Table(
    "contact_reminder",
    metadata,
    Column("person_id", ForeignKey("person.id"), primary_key=True),
    Column("contact_kind", Text, primary_key=True),
    # After how many months without word.
    Column("step_months", SmallInteger, primary_key=True),
    # When the person was last heard of: a later word begins anew.
    Column("last_seen_time", DateTime(timezone=True), primary_key=True),
    time_column("created_time", nullable=False),
    one_of("contact_kind", *ContactKind),
)
