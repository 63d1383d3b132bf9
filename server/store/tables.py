"""The tables, but those of message_tables.py and sweep_tables.py. Constraints hold what no code may
break; migrations/ builds the same."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    false,
    func,
    text,
)

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)


def time_column(name: str, *, nullable: bool = True) -> Column[object]:
    """A moment, with its zone."""
    return Column(name, DateTime(timezone=True), nullable=nullable)


def one_of(column: str, *values: str) -> CheckConstraint:
    """That the column holds one of the values, or NULL."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _contact(kind: str) -> list[Column[object]]:
    return [
        Column(kind, Text),
        time_column(f"{kind}_updated_time"),
        time_column(f"{kind}_confirmed_time"),
        time_column(f"{kind}_validated_time"),
        # Whether the value stands on other persons too, and a keyed hash by which it is compared.
        Column(f"{kind}_shared", Boolean, nullable=False, server_default=text("false")),
        Column(f"{kind}_digest", LargeBinary),
    ]


# One row. last_change_number is taken last in each transaction and its lock held until the
# commit, so change numbers become visible in their own order: a reader of the feed that saw
# n has seen all below. caller_key turns citizens and bodies into the pseudonyms and hashes in request.
# system_identifier and timeline name the PostgreSQL that served last; another one is a restored one.
register = Table(
    "register",
    metadata,
    Column("id", SmallInteger, primary_key=True),
    Column("epoch", Uuid, nullable=False),
    Column("caller_key", LargeBinary, nullable=False),
    Column("last_change_number", BigInteger, nullable=False),
    Column("system_identifier", BigInteger),
    Column("timeline", BigInteger),
    CheckConstraint("id = 1", name="one_row"),
)

mailbox_operator = Table(
    "mailbox_operator",
    metadata,
    Column("organisation_number", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("adapter", Text, nullable=False, unique=True),
    # Whether it opens accounts for citizens who ask for one in the choice.
    Column("opens_accounts", Boolean, nullable=False, server_default=false()),
)

person = Table(
    "person",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("identifier", Text, nullable=False, unique=True),
    Column("status", Text, nullable=False),
    Column("reserved", Boolean, nullable=False),
    time_column("reservation_time"),
    Column("language", Text),
    time_column("language_updated_time"),
    *_contact("email"),
    *_contact("mobile"),
    Column("change_number", BigInteger, nullable=False, unique=True),
    Column("deletion_reason", Text),
    # What public bodies read, ready to be sent (server/encoded_person.py); NULL until the job has
    # made it. Its first 8 bytes are the change number that it was made for: a trigger in
    # migrations/ takes away what an update has left stale.
    Column("encoded", LargeBinary),
    CheckConstraint("identifier ~ '^[0-9]{11}$'", name="identifier"),
    one_of("status", "ACTIVE", "DELETED"),
    one_of("language", "nb", "nn", "en", "se"),
    one_of(
        "deletion_reason",
        "OWN_CHOICE",
        "DEAD",
        "EXPIRED_IDENTITY",
        "NEW_IDENTITY",
        "DISAPPEARED",
        "SHARED_CONTACT",
    ),
    CheckConstraint("(email IS NULL) = (email_updated_time IS NULL)", name="email_updated"),
    CheckConstraint("(mobile IS NULL) = (mobile_updated_time IS NULL)", name="mobile_updated"),
    CheckConstraint(
        "status = 'ACTIVE' OR (email IS NULL AND mobile IS NULL AND language IS NULL AND NOT reserved)",
        name="tombstone",
    ),
    *(
        Index(
            f"person_{kind}_digest_idx",
            f"{kind}_digest",
            # So that those of many with a wrong flag are found without looking at the others.
            f"{kind}_shared",
            postgresql_where=text(f"{kind}_digest IS NOT NULL"),
        )
        for kind in ("email", "mobile")
    ),
    # Values that await their digest: written by code from before digests, or changed by it,
    # which takes the digest away (a trigger in migrations/).
    *(
        Index(
            f"person_{kind}_undigested_idx",
            "id",
            postgresql_where=text(f"{kind} IS NOT NULL AND {kind}_digest IS NULL"),
        )
        for kind in ("email", "mobile")
    ),
    Index("person_unencoded_idx", "id", postgresql_where=text("encoded IS NULL")),
)

# Values whose sharing is to be counted anew, noted with the change that made it so. No value
# is unique: whoever notes one waits for nobody.
shared_recount = Table(
    "shared_recount",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    one_of("kind", "email", "mobile"),
)

mailbox = Table(
    "mailbox",
    metadata,
    Column("person_id", ForeignKey("person.id"), primary_key=True),
    Column("operator", ForeignKey("mailbox_operator.organisation_number"), primary_key=True),
    Column("address", Text, nullable=False),
    Column("certificate", LargeBinary),
    Column("chosen", Boolean, nullable=False),
    Column("operator_state", Text, nullable=False),
    one_of("operator_state", "PENDING", "IN_STEP", "NO_ACCOUNT", "REFUSED"),
    Index("mailbox_one_chosen_idx", "person_id", unique=True, postgresql_where=text("chosen")),
)

# The last change that concerned an operator's mailbox: a row for every mailbox that is or was,
# so that the operator hears of those that are gone, and of nothing else about the person.
mailbox_change = Table(
    "mailbox_change",
    metadata,
    Column("person_id", ForeignKey("person.id"), primary_key=True),
    Column("operator", ForeignKey("mailbox_operator.organisation_number"), primary_key=True),
    Column("change_number", BigInteger, nullable=False),
    UniqueConstraint("operator", "change_number"),
)

# The sequence of each operator's last event about a person that counted: none that is not above
# it does. The person, who need not be in the register, is a keyed hash.
mailbox_sequence = Table(
    "mailbox_sequence",
    metadata,
    Column("operator", ForeignKey("mailbox_operator.organisation_number"), primary_key=True),
    Column("person_key", LargeBinary, primary_key=True),
    Column("last_sequence", BigInteger, nullable=False),
)

# By what a person agreed to what an operator reported; erased with the person.
mailbox_evidence = Table(
    "mailbox_evidence",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("person_id", ForeignKey("person.id"), nullable=False, index=True),
    Column("operator", ForeignKey("mailbox_operator.organisation_number"), nullable=False),
    Column("change_number", BigInteger, nullable=False),
    Column("eid", Text, nullable=False),
    Column("level", Text, nullable=False),
    time_column("agreed_time", nullable=False),
    Column("agreed_text_sha256", LargeBinary, nullable=False),
    time_column("occurred_time"),
    one_of("level", "LOW", "SUBSTANTIAL", "HIGH"),
)

# What changed and when; never a value, so that nothing outlives the citizen's own entry.
history = Table(
    "history",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("person_id", ForeignKey("person.id"), nullable=False, index=True),
    Column("change_number", BigInteger, nullable=False),
    time_column("changed_time", nullable=False),
    Column("field", Text, nullable=False),
    Column("caller_kind", Text, nullable=False),
)

# First answers, so that a repeated request is answered and not done again. No personal
# data: the caller is a pseudonym or an organisation, the body a keyed hash.
request = Table(
    "request",
    metadata,
    Column("caller", Text, primary_key=True),
    Column("request_id", Uuid, primary_key=True),
    Column("body_hash", LargeBinary, nullable=False),
    Column("result", Text),
    Column("change_number", BigInteger),
    Column("affected_count", Integer),
    Column("created_time", DateTime(timezone=True), nullable=False, server_default=func.now(), index=True),
)

# At most one row per operator and person: that the operator's side must be brought to what
# the person's row says. No payload, so neither order nor repetition can do harm.
delivery = Table(
    "delivery",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("operator", ForeignKey("mailbox_operator.organisation_number"), nullable=False),
    Column("person_id", ForeignKey("person.id"), nullable=False),
    Column("change_number", BigInteger, nullable=False),
    time_column("created_time", nullable=False),
    time_column("not_before_time", nullable=False),
    time_column("leased_until_time"),
    Column("lease_token", Uuid),
    # The person's change number that the lease showed; an outcome counts only if no later
    # change made the delivery due.
    Column("leased_change_number", BigInteger),
    Column("failed_attempts", Integer, nullable=False),
    Column("last_error_code", Text),
    Column("refused", Boolean, nullable=False),
    # W3C traceparent of the call that made it due.
    Column("trace_parent", Text),
    # The citizen asked this operator for an account, and did not withdraw that.
    Column("open_account", Boolean, nullable=False, server_default=false()),
    UniqueConstraint("person_id", "operator"),
    Index("delivery_due_idx", "operator", "not_before_time", postgresql_where=text("NOT refused")),
)

# Imports, so that one that was cut off goes on where it was.
person_import = Table(
    "person_import",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("check_only", Boolean, nullable=False),
    # All rows up to this one are done.
    Column("received_row", BigInteger, nullable=False),
    Column("loaded_count", BigInteger, nullable=False),
    Column("present_count", BigInteger, nullable=False),
    Column("rejected_count", BigInteger, nullable=False),
    time_column("created_time", nullable=False),
    time_column("finished_time"),
)

# The change numbers that an import took: by them a row that comes twice is told from one whose
# person was there before.
person_import_chunk = Table(
    "person_import_chunk",
    metadata,
    Column("import_id", ForeignKey("person_import.id", ondelete="CASCADE"), primary_key=True),
    Column("first_change_number", BigInteger, primary_key=True),
    Column("last_change_number", BigInteger, nullable=False),
)

# Rows that an import did not take, and why; never what stood in them.
person_import_rejection = Table(
    "person_import_rejection",
    metadata,
    Column("import_id", ForeignKey("person_import.id", ondelete="CASCADE"), primary_key=True),
    Column("row", BigInteger, primary_key=True),
    Column("field", Text, nullable=False),
    Column("reason", Text, nullable=False),
)

# One row: the last change of any certificate, and when the staff was last warned of those that expire.
certificate_counter = Table(
    "certificate_counter",
    metadata,
    Column("id", SmallInteger, primary_key=True),
    Column("last_change_number", BigInteger, nullable=False),
    time_column("warned_time"),
    CheckConstraint("id = 1", name="one_row"),
)

# Certificates to which senders encrypt: all that ever were.
certificate = Table(
    "certificate",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("use", Text, nullable=False),
    Column("organisation_number", Text, nullable=False),
    Column("der", LargeBinary, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    time_column("valid_from_time", nullable=False),
    time_column("valid_until_time", nullable=False),
    time_column("use_from_time", nullable=False),
    time_column("added_time", nullable=False),
    Column("added_change_number", BigInteger, nullable=False, unique=True),
    time_column("retired_time"),
    Column("retired_change_number", BigInteger, unique=True),
    one_of("use", "MAILBOX", "PRINT"),
    CheckConstraint("(retired_time IS NULL) = (retired_change_number IS NULL)", name="retired"),
    UniqueConstraint("use", "sha256"),
)
