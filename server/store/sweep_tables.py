"""The tables of sweeps, in one metadata with those of tables.py."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

from server.domain.comparison import DifferenceKind, NotRepairedReason
from server.store.tables import metadata, one_of, time_column

# Comparisons of the register with one operator. Persons below next_change_number and above
# above_change_number are still to come; then, once, those who changed after began_change_number.
sweep = Table(
    "sweep",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("operator", ForeignKey("mailbox_operator.organisation_number"), nullable=False),
    Column("dry_run", Boolean, nullable=False),
    Column("rolling", Boolean, nullable=False),
    Column("state", Text, nullable=False),
    Column("person_count", BigInteger, nullable=False),
    Column("compared_count", BigInteger, nullable=False),
    Column("unread_count", BigInteger, nullable=False),
    Column("difference_count", BigInteger, nullable=False),
    Column("repaired_count", BigInteger, nullable=False),
    Column("max_repairs", BigInteger, nullable=False),
    Column("began_change_number", BigInteger, nullable=False),
    Column("above_change_number", BigInteger, nullable=False),
    Column("next_change_number", BigInteger, nullable=False),
    time_column("started_time", nullable=False),
    time_column("ended_time"),
    one_of("state", "RUNNING", "FINISHED", "STOPPED_AT_CAP", "ENDED"),
    CheckConstraint("repaired_count <= max_repairs", name="cap"),
    Index("sweep_one_running_idx", "operator", unique=True, postgresql_where=text("state = 'RUNNING'")),
)

# What a sweep has to read: an account, or the next part of the operator's list. person_id is no
# foreign key: whoever leases must wait for no writer.
comparison = Table(
    "comparison",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("sweep_id", ForeignKey("sweep.id"), nullable=False),
    Column("person_id", BigInteger),
    Column("after_identifier", Text),
    # The person's at the lease: what was read of one who changed since says nothing.
    Column("change_number", BigInteger, nullable=False),
    time_column("not_before_time", nullable=False),
    time_column("leased_until_time"),
    Column("lease_token", Uuid),
    Column("failed_attempts", Integer, nullable=False),
    CheckConstraint("(person_id IS NULL) <> (after_identifier IS NULL)", name="subject"),
    UniqueConstraint("sweep_id", "person_id"),
)

# What sweeps found to differ, kept without values; not_repaired_reason is NULL where it was repaired.
sweep_difference = Table(
    "sweep_difference",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("sweep_id", ForeignKey("sweep.id"), nullable=False, index=True),
    Column("person_id", ForeignKey("person.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("change_number", BigInteger, nullable=False),
    Column("not_repaired_reason", Text),
    time_column("found_time", nullable=False),
    one_of("kind", *DifferenceKind),
    one_of("not_repaired_reason", *NotRepairedReason),
)
