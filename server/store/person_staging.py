"""Many new persons at once: copied into a staging table, and from there entered with change numbers.

The staging table is seen by no other session and ends with the transaction. All that needs change
numbers is one statement, the last one: all other writers wait meanwhile. Statements are few
altogether, since the thread that waits for each answer shares the interpreter with the one that
checks the next persons, and gets it back only after some milliseconds.
"""

import uuid
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from psycopg import Cursor
from psycopg.sql import SQL, Identifier
from sqlalchemy.dialects import postgresql

from server.domain.identifiers import PersonIdentifier
from server.domain.person import Person
from server.store import tables
from server.store.rows import Digest, mailbox_values, person_values
from server.store.transaction import Transaction

# What stands in `encoded` before the bytes that do not depend on the change number: the number.
_NUMBER_BYTES = 8

# Each person has its place among those staged, from 0 on.
_COLUMNS = [column for column in tables.person.columns if column.name not in ("id", "change_number")]
_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
_TYPES = ["bigint", *(column.type.compile(_DIALECT).lower() for column in _COLUMNS)]
_in_order = itemgetter(*(column.name for column in _COLUMNS))


class StagedPerson(NamedTuple):
    """A person in an import's row, ready to be copied; made by staged()."""

    row: int
    identifier: PersonIdentifier
    columns: tuple[Any, ...]
    mailboxes: tuple[dict[str, Any], ...]


def staged(row: int, person: Person, encoded: bytes, digest: Digest) -> StagedPerson:
    """Make the person ready.

    encoded: with any change number; that which the person gets takes its place.
    """
    values = person_values(person, digest)
    values["encoded"] = encoded[_NUMBER_BYTES:]
    mailboxes = tuple([mailbox_values(person, box) for box in person.mailboxes])
    return StagedPerson(row, person.identifier, _in_order(values), mailboxes)


def make_staging(transaction: Transaction) -> None:
    """Make the staging table, empty; and have no plan of this transaction read a whole table, such
    as one that is kept from when the table was small.
    """
    with _cursor(transaction) as cursor:
        # Several statements at once, which cannot be prepared.
        cursor.execute(_MAKE_STAGING, prepare=False)


def load(transaction: Transaction, persons: Sequence[StagedPerson], import_id: uuid.UUID) -> None:
    """Enter persons who are new, as they are, without deliveries, messages and history, and note
    the change numbers that they get as a chunk of the import. At least one person; after
    make_staging().

    No value is noted for the recount: whoever loads has to see to that.
    """
    boxes = [(place, box) for place, each in enumerate(persons) for box in each.mailboxes]
    parameters = {
        "count": len(persons),
        "import_id": import_id,
        "places": [place for place, _ in boxes],
        **{name: [box[name] for _, box in boxes] for name in _MAILBOX_COLUMNS},
    }
    with _cursor(transaction) as cursor:
        with cursor.copy("COPY staged_person FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(_TYPES)
            for place, each in enumerate(persons):
                copy.write_row((place, *each.columns))
        cursor.execute(_ENTER, parameters)


def _cursor(transaction: Transaction) -> "Cursor[Any]":
    connection: Any = transaction.connection.connection.driver_connection
    cursor: Cursor[Any] = connection.cursor()
    return cursor


_MAKE_STAGING = SQL("""
    SET LOCAL enable_seqscan = off;
    SET LOCAL jit = off;
    CREATE TEMPORARY TABLE staged_person (place bigint, {columns}) ON COMMIT DROP
""").format(
    columns=SQL(", ").join(
        SQL("{} {}").format(Identifier(column.name), SQL(type_name))
        for column, type_name in zip(_COLUMNS, _TYPES[1:], strict=True)
    )
)
_MAILBOX_COLUMNS = ("operator", "address", "certificate", "chosen", "operator_state")
# The counter comes first in it, and yet last: whatever one would wait for was had before.
_ENTER = SQL("""
    WITH taken AS (
        UPDATE register SET last_change_number = last_change_number + %(count)s
        RETURNING last_change_number - %(count)s + 1 AS first
    ), entered AS (
        INSERT INTO person (change_number, encoded, {columns})
        SELECT first + place, int8send(first + place) || encoded, {columns} FROM taken, staged_person
        RETURNING id, change_number
    ), box AS (
        SELECT entered.id, entered.change_number, given.*
        FROM taken, entered, unnest(
            %(places)s::bigint[], %(operator)s::text[], %(address)s::text[], %(certificate)s::bytea[],
            %(chosen)s::boolean[], %(operator_state)s::text[]
        ) AS given (place, operator, address, certificate, chosen, operator_state)
        WHERE entered.change_number = first + place
    ), entered_box AS (
        INSERT INTO mailbox (person_id, operator, address, certificate, chosen, operator_state)
        SELECT id, operator, address, certificate, chosen, operator_state FROM box
    ), noted_box AS (
        INSERT INTO mailbox_change (person_id, operator, change_number)
        SELECT id, operator, change_number FROM box
    )
    INSERT INTO person_import_chunk (import_id, first_change_number, last_change_number)
    SELECT %(import_id)s, first, first + %(count)s - 1 FROM taken
""").format(
    columns=SQL(", ").join(Identifier(column.name) for column in _COLUMNS if column.name != "encoded")
)
