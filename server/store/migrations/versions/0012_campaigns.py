"""Campaigns against shared contact info."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_table(
        "campaign",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("deadline_date", sa.Date(), nullable=False),
        sa.Column("previewed_deletion_count", sa.BigInteger()),
        sa.Column("previewed_time", sa.DateTime(timezone=True)),
        sa.Column("max_deletions", sa.BigInteger()),
        sa.Column("planned_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_time", sa.DateTime(timezone=True)),
        sa.Column("judged_time", sa.DateTime(timezone=True)),
        sa.Column("ended_time", sa.DateTime(timezone=True)),
        sa.CheckConstraint(
            "state IN ('PLANNED', 'RUNNING', 'PAUSED', 'STOPPED_AT_CAP', 'FINISHED', 'ENDED')",
            name=op.f("campaign_state_check"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("campaign_pkey")),
    )
    op.create_index(
        "campaign_one_open_idx",
        "campaign",
        [sa.text("(true)")],
        unique=True,
        postgresql_where=sa.text("state NOT IN ('FINISHED', 'ENDED')"),
    )
    op.create_table(
        "campaign_organisation",
        sa.Column("campaign_id", sa.BigInteger(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign.id"], name=op.f("campaign_organisation_campaign_id_fkey")
        ),
        sa.PrimaryKeyConstraint("campaign_id", "domain", name=op.f("campaign_organisation_pkey")),
    )
    op.create_table(
        "campaign_case",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("campaign_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("person_count", sa.Integer(), nullable=False),
        sa.Column("notice_id", sa.Uuid()),
        sa.CheckConstraint("kind IN ('email', 'mobile')", name=op.f("campaign_case_kind_check")),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign.id"], name=op.f("campaign_case_campaign_id_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("campaign_case_pkey")),
        sa.UniqueConstraint(
            "campaign_id", "kind", "digest", name=op.f("campaign_case_campaign_id_kind_digest_key")
        ),
    )
    op.create_table(
        "campaign_person",
        sa.Column("case_id", sa.BigInteger(), nullable=False),
        sa.Column("person_id", sa.BigInteger(), nullable=False),
        sa.Column("standing", sa.Text(), nullable=False),
        sa.Column("standing_date", sa.Date(), nullable=False),
        sa.Column("letter_id", sa.Uuid()),
        sa.CheckConstraint(
            "standing IN ('OPEN', 'REPAIRED', 'EXEMPT', 'SETTLED', 'DOOMED', 'DELETED')",
            name=op.f("campaign_person_standing_check"),
        ),
        sa.ForeignKeyConstraint(["case_id"], ["campaign_case.id"], name=op.f("campaign_person_case_id_fkey")),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("campaign_person_person_id_fkey")),
        sa.PrimaryKeyConstraint("case_id", "person_id", name=op.f("campaign_person_pkey")),
    )
    op.create_index(op.f("campaign_person_person_id_idx"), "campaign_person", ["person_id"])
    op.create_table(
        "campaign_event",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("campaign_id", sa.BigInteger(), nullable=False),
        sa.Column("event_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign.id"], name=op.f("campaign_event_campaign_id_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("campaign_event_pkey")),
    )
    op.create_index(op.f("campaign_event_campaign_id_idx"), "campaign_event", ["campaign_id"])
