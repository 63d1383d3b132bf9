"""Where the register stands: its epoch, its last change number, and the PostgreSQL that holds it."""

import uuid
from dataclasses import dataclass

from sqlalchemy import Connection, func, text, update

from server.store.schema import UnsafeDatabase
from server.store.tables import register

# The timeline is that of the log being written now. pg_control_checkpoint() tells that of the
# last checkpoint, and a standby that was just promoted serves before it has made one.
_STANDING = text("""
    SELECT epoch, last_change_number, system_identifier, timeline,
        (SELECT control.system_identifier FROM pg_control_system() AS control) AS found_identifier,
        CASE WHEN NOT pg_is_in_recovery()
            THEN ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint
        END AS found_timeline
    FROM register
""")
_LOCK = text("SELECT FROM register FOR UPDATE")


class StandbyDatabase(UnsafeDatabase):
    """The database is a standby, which has no timeline of its own and takes no writes."""


class RestoredDatabase(Exception):
    """The database is not known to hold all that was served from it; the text says what to decide."""


@dataclass(frozen=True)
class Identity:
    """A PostgreSQL. Another timeline of the same one is a copy that was promoted or recovered."""

    system_identifier: int
    timeline: int

    def __str__(self) -> str:
        return f"PostgreSQL {self.system_identifier}, timeline {self.timeline}"


@dataclass(frozen=True)
class Standing:
    """The register at one moment.

    noted is the PostgreSQL that the register was served from last, None where none is noted
    yet; found is the one that answered.
    """

    epoch: uuid.UUID
    last_change_number: int
    noted: Identity | None
    found: Identity


def read_standing(connection: Connection) -> Standing:
    """Where the register stands, in one statement that takes no lock.

    Raises StandbyDatabase; a server that runs should wait for the primary, as for a database
    that is away.
    """
    row = connection.execute(_STANDING).one()
    if row.found_timeline is None:
        raise StandbyDatabase(
            "The database is a standby: promote it, or let KRR_DATABASE_URL name the primary."
        )
    noted = None
    if row.system_identifier is not None and row.timeline is not None:
        noted = Identity(row.system_identifier, row.timeline)
    found = Identity(row.found_identifier, row.found_timeline)
    return Standing(row.epoch, row.last_change_number, noted, found)


def lock_standing(connection: Connection) -> Standing:
    """Where the register stands, and will until the transaction ends: no change gets a number.

    Raises StandbyDatabase.
    """
    # Asked first, for its clear refusal: a standby gives no lock.
    read_standing(connection)
    connection.execute(_LOCK)
    return read_standing(connection)


def note_identity(connection: Connection, identity: Identity) -> None:
    """Note the PostgreSQL that the register is served from."""
    connection.execute(
        update(register).values(system_identifier=identity.system_identifier, timeline=identity.timeline)
    )


def begin_epoch(connection: Connection, found: Identity, *, after: int) -> tuple[uuid.UUID, int]:
    """Give the register a fresh epoch and note its PostgreSQL; returns the epoch and the last
    change number.

    after: the next change gets a higher number than this, also where the register is below it:
    numbers stand in logs and in what callers hold, without their epoch.
    """
    row = connection.execute(
        update(register)
        .values(
            epoch=uuid.uuid4(),
            last_change_number=func.greatest(register.c.last_change_number, after),
            system_identifier=found.system_identifier,
            timeline=found.timeline,
        )
        .returning(register.c.epoch, register.c.last_change_number)
    ).one()
    return row.epoch, row.last_change_number
