"""Many new persons at once: copied into a staging table, and from there entered with change numbers.

The staging table is seen by no other session and ends with the transaction. All that needs change
numbers is one statement, the last one: all other writers wait meanwhile. Statements are few
altogether, since the thread that waits for each answer shares the interpreter with the one that
checks the next persons, and gets it back only after some milliseconds.
"""

import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple, NewType

from psycopg import Cursor
from psycopg.sql import SQL, Identifier
from sqlalchemy import text
from sqlalchemy.dialects import postgresql

from server.domain.contact import ContactKind
from server.domain.identifiers import MailboxAddress, OrganisationNumber, PersonIdentifier
from server.domain.person import OperatorState
from server.store import tables
from server.store.shared_contact import note_digests
from server.store.transaction import Transaction

# From 1970 to 2000 in microseconds.
TO_2000 = 946_684_800_000_000

# A time as COPY takes it: a timestamptz is a bigint of microseconds since 2000 there.
StagedTime = NewType("StagedTime", int)

# A person's e-mail or mobile: value, updated, confirmed, validated, digest.
StagedContact = tuple[str | None, StagedTime | None, StagedTime | None, StagedTime | None, bytes | None]
NO_CONTACT: StagedContact = (None, None, None, None, None)


class StagedMailbox(NamedTuple):
    """One of a person's mailboxes."""

    operator: OrganisationNumber
    address: MailboxAddress
    certificate: bytes | None
    chosen: bool


class StagedPerson(NamedTuple):
    """A person ready to be copied; its contact info as StagedContact says.

    row: the place among those that are loaded.
    encoded: with any change number; that which the person gets takes its place.
    """

    row: int
    identifier: PersonIdentifier
    status: str
    reserved: bool
    reservation_time: StagedTime | None
    language: str | None
    language_updated_time: StagedTime | None
    email: str | None
    email_updated_time: StagedTime | None
    email_confirmed_time: StagedTime | None
    email_validated_time: StagedTime | None
    email_digest: bytes | None
    mobile: str | None
    mobile_updated_time: StagedTime | None
    mobile_confirmed_time: StagedTime | None
    mobile_validated_time: StagedTime | None
    mobile_digest: bytes | None
    encoded: bytes
    mailboxes: tuple[StagedMailbox, ...]


_COLUMNS = [tables.person.columns[name] for name in StagedPerson._fields[1:-1]]
_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # as SQLAlchemy left it
_TYPES = [column.type.compile(_DIALECT).lower() for column in _COLUMNS]
# Of what is given for them.
_COPIED_TYPES = ["bigint", *("bigint" if each.startswith("timestamp") else each for each in _TYPES)]


def stage(transaction: Transaction, persons: Sequence[StagedPerson]) -> None:
    """Copy the persons into the staging table, in place of any that stand there; and have no plan
    of this transaction read a whole table, such as one that is kept from when the table was small.
    """
    with _cursor(transaction) as cursor:
        # Several statements at once, which cannot be prepared.
        cursor.execute(_MAKE_STAGING, prepare=False)
        with cursor.copy("COPY staged_person FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(_COPIED_TYPES)
            for place, each in enumerate(persons):
                copy.write_row((place, *each[1:-1]))


def enter_staged(
    transaction: Transaction, persons: Sequence[StagedPerson], import_id: uuid.UUID | None = None
) -> None:
    """Enter the persons that were staged last, as they are, without deliveries, messages and history.

    persons: the same; at least one, and none that has a row.
    import_id: the import of which the change numbers that they get are noted as a chunk.

    No value is noted for the recount: whoever enters has to see to that.
    """
    boxes = [(place, box) for place, each in enumerate(persons) for box in each.mailboxes]
    parameters = {
        "count": len(persons),
        "import_id": import_id,
        "operator_state": OperatorState.IN_STEP.value,
        "places": [place for place, _ in boxes],
        **{name: [getattr(box, name) for _, box in boxes] for name in StagedMailbox._fields},
    }
    with _cursor(transaction) as cursor:
        cursor.execute(_ENTER, parameters)


def load_new(transaction: Transaction, persons: Sequence[StagedPerson]) -> int:
    """Enter those who have no row, as enter_staged() does, and note their contact info for the recount.
    Returns how many were entered.

    persons: no identifier twice.
    """
    connection = transaction.connection
    identifiers = [person.identifier for person in persons]
    present = set(connection.scalars(_PRESENT, {"identifiers": identifiers}))
    new = [person for person in persons if person.identifier not in present]
    if new:
        note_digests(
            connection,
            [
                (kind, digest)
                for person in new
                for kind, digest in (
                    (ContactKind.EMAIL, person.email_digest),
                    (ContactKind.MOBILE, person.mobile_digest),
                )
                if digest is not None
            ],
        )
        stage(transaction, new)
        enter_staged(transaction, new)
    return len(new)


def _cursor(transaction: Transaction) -> "Cursor[Any]":
    connection: Any = transaction.connection.connection.driver_connection
    cursor: Cursor[Any] = connection.cursor()
    return cursor


_PRESENT = text("SELECT identifier FROM person WHERE identifier = ANY(CAST(:identifiers AS text[]))")
_MAKE_STAGING = SQL("""
    SET LOCAL enable_seqscan = off;
    SET LOCAL jit = off;
    CREATE TEMPORARY TABLE IF NOT EXISTS staged_person (place bigint, {columns}) ON COMMIT DROP;
    DELETE FROM staged_person
""").format(
    columns=SQL(", ").join(
        SQL("{} {}").format(Identifier(column.name), SQL(type_name))
        for column, type_name in zip(_COLUMNS, _TYPES, strict=True)
    )
)
# The counter comes first in it, and yet last: whatever one would wait for was had before.
_ENTER = SQL("""
    WITH taken AS (
        UPDATE register SET last_change_number = last_change_number + %(count)s
        RETURNING last_change_number - %(count)s + 1 AS first
    ), entered AS (
        INSERT INTO person (change_number, encoded, {columns})
        SELECT first + place, int8send(first + place) || substr(encoded, 9), {columns}
        FROM taken, staged_person
        RETURNING id, change_number
    ), box AS (
        SELECT entered.id, entered.change_number, given.*
        FROM taken, entered, unnest(
            %(places)s::bigint[], %(operator)s::text[], %(address)s::text[], %(certificate)s::bytea[],
            %(chosen)s::boolean[]
        ) AS given (place, operator, address, certificate, chosen)
        WHERE entered.change_number = first + place
    ), entered_box AS (
        INSERT INTO mailbox (person_id, operator, address, certificate, chosen, operator_state)
        SELECT id, operator, address, certificate, chosen, %(operator_state)s FROM box
    ), noted_box AS (
        INSERT INTO mailbox_change (person_id, operator, change_number)
        SELECT id, operator, change_number FROM box
    )
    INSERT INTO person_import_chunk (import_id, first_change_number, last_change_number)
    SELECT %(import_id)s::uuid, first, first + %(count)s - 1 FROM taken WHERE %(import_id)s::uuid IS NOT NULL
""").format(
    columns=SQL(", ").join(Identifier(column.name) for column in _COLUMNS if column.name != "encoded")
)
