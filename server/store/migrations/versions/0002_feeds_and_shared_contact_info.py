"""What the feeds, the shared flag, epochs and traces need.

Code from before goes on to work: new columns are optional or have a default. What it does to
contact info is found by the recount of shared contact info: its new values have no digest, and
the trigger takes the digest from those that it changes.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_REASONS = "'OWN_CHOICE', 'DEAD', 'EXPIRED_IDENTITY', 'NEW_IDENTITY', 'DISAPPEARED'"


def upgrade() -> None:
    op.add_column("register", sa.Column("system_identifier", sa.BigInteger(), nullable=True))
    op.add_column("register", sa.Column("timeline", sa.BigInteger(), nullable=True))
    for kind in ("email", "mobile"):
        op.add_column(
            "person",
            sa.Column(f"{kind}_shared", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        )
        op.add_column("person", sa.Column(f"{kind}_digest", sa.LargeBinary(), nullable=True))
        op.execute(f"""
            CREATE FUNCTION forget_stale_{kind}_digest() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN
                INSERT INTO shared_recount (kind, digest)
                    SELECT '{kind}', OLD.{kind}_digest WHERE OLD.{kind}_digest IS NOT NULL;
                NEW.{kind}_digest := NULL;
                RETURN NEW;
            END $$
        """)
        op.execute(f"""
            CREATE TRIGGER forget_stale_{kind}_digest BEFORE UPDATE ON person FOR EACH ROW
            WHEN (NEW.{kind} IS DISTINCT FROM OLD.{kind}
                  AND NEW.{kind}_digest IS NOT DISTINCT FROM OLD.{kind}_digest)
            EXECUTE FUNCTION forget_stale_{kind}_digest()
        """)
    op.add_column("person", sa.Column("deletion_reason", sa.Text(), nullable=True))
    # Not validated: no row has a reason yet, and looking at each would hold up writers.
    op.create_check_constraint(
        op.f("person_deletion_reason_check"),
        "person",
        f"deletion_reason IN ({_REASONS})",
        postgresql_not_valid=True,
    )
    op.add_column("delivery", sa.Column("trace_parent", sa.Text(), nullable=True))
    op.add_column("message", sa.Column("trace_parent", sa.Text(), nullable=True))
    op.create_table(
        "shared_recount",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("kind IN ('email', 'mobile')", name=op.f("shared_recount_kind_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("shared_recount_pkey")),
    )
    op.create_table(
        "mailbox_change",
        sa.Column("person_id", sa.BigInteger(), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("change_number", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("mailbox_change_person_id_fkey")),
        sa.ForeignKeyConstraint(
            ["operator"], ["mailbox_operator.organisation_number"], name=op.f("mailbox_change_operator_fkey")
        ),
        sa.PrimaryKeyConstraint("person_id", "operator", name=op.f("mailbox_change_pkey")),
        sa.UniqueConstraint(
            "operator", "change_number", name=op.f("mailbox_change_operator_change_number_key")
        ),
    )
    op.execute("""
        INSERT INTO mailbox_change (person_id, operator, change_number)
        SELECT mailbox.person_id, mailbox.operator, person.change_number
        FROM mailbox JOIN person ON person.id = mailbox.person_id
    """)
