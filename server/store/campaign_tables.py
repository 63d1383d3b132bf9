"""The tables of campaigns against shared contact info, in one metadata with those of tables.py."""

from sqlalchemy import (
    BigInteger,
    Column,
    Date,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

from server.domain.campaign import CampaignState, Standing
from server.domain.contact import ContactKind
from server.store.tables import metadata, one_of, time_column

campaign = Table(
    "campaign",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("state", Text, nullable=False),
    Column("deadline_date", Date, nullable=False),
    Column("previewed_deletion_count", BigInteger),
    time_column("previewed_time"),
    Column("max_deletions", BigInteger),
    time_column("planned_time", nullable=False),
    time_column("started_time"),
    # When it was settled, after the deadline, who is to be deleted.
    time_column("judged_time"),
    time_column("ended_time"),
    one_of("state", *CampaignState),
    # Two at once would tell people two deadlines.
    Index(
        "campaign_one_open_idx",
        text("(true)"),
        unique=True,
        postgresql_where=text("state NOT IN ('FINISHED', 'ENDED')"),
    ),
)

# Where organisations are told, by the domain of shared addresses.
campaign_organisation = Table(
    "campaign_organisation",
    metadata,
    Column("campaign_id", ForeignKey("campaign.id"), primary_key=True),
    Column("domain", Text, primary_key=True),
    Column("email", Text, nullable=False),
)

# A value that many shared when the campaign was planned; by its digest, never the value.
campaign_case = Table(
    "campaign_case",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("campaign_id", ForeignKey("campaign.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("person_count", Integer, nullable=False),
    # The message that tells the organisation, of this and its other cases.
    Column("notice_id", Uuid),
    one_of("kind", *ContactKind),
    UniqueConstraint("campaign_id", "kind", "digest"),
)

campaign_person = Table(
    "campaign_person",
    metadata,
    Column("case_id", ForeignKey("campaign_case.id"), primary_key=True),
    Column("person_id", ForeignKey("person.id"), primary_key=True, index=True),
    Column("standing", Text, nullable=False),
    # Norwegian calendar.
    Column("standing_date", Date, nullable=False),
    # The letter to the person, about all cases.
    Column("letter_id", Uuid),
    one_of("standing", *Standing),
)

# Every step, for the record.
campaign_event = Table(
    "campaign_event",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("campaign_id", ForeignKey("campaign.id"), nullable=False, index=True),
    time_column("event_time", nullable=False),
    Column("actor", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("reason", Text),
)
