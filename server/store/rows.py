"""Rows to persons and back."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, FromClause, RowMapping, Select, Text, any_, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from server.domain.contact import ContactKind, ContactPoint
from server.domain.identifiers import PersonIdentifier
from server.domain.person import DeletionReason, Language, Mailbox, OperatorState, Person, Status
from server.store.tables import mailbox, person

# By which values are compared: keyed, so that it tells nothing to those without the register's key.
Digest = Callable[[ContactKind, str], bytes]

# Made once: an import asks for them by the million.
_CONTACT_COLUMNS = {
    kind: (
        kind.value,
        *(
            f"{kind}_{part}"
            for part in ("updated_time", "confirmed_time", "validated_time", "shared", "digest")
        ),
    )
    for kind in ContactKind
}

# A row's values by column.
Columns = Mapping[str, Any] | RowMapping


def persons_in_one_statement(persons: FromClause) -> Select[Any]:
    """Select persons with all their mailboxes from rows shaped like the person table.

    One statement, so that a person and the mailboxes are of the same moment.
    """
    return select(
        persons,
        mailbox.c.operator,
        mailbox.c.address,
        mailbox.c.certificate,
        mailbox.c.chosen,
        mailbox.c.operator_state,
    ).select_from(persons.outerjoin(mailbox, mailbox.c.person_id == persons.c.id))


def load_persons(connection: Connection, statement: Select[Any]) -> dict[int, Person]:
    """Run such a statement; persons by row id, in the order of the rows."""
    rows_by_id: dict[int, list[RowMapping]] = {}
    for row in connection.execute(statement).mappings():
        rows_by_id.setdefault(row["id"], []).append(row)
    return {
        row_id: person_of(rows[0], [row for row in rows if row["operator"] is not None])
        for row_id, rows in rows_by_id.items()
    }


def select_persons(identifiers: Sequence[PersonIdentifier]) -> Select[Any]:
    """Select the registered ones among those persons."""
    # ANY and not IN: one statement to prepare, whatever the number of identifiers.
    return persons_in_one_statement(person).where(
        person.c.identifier == any_(literal(list(identifiers), ARRAY(Text)))
    )


def person_of(row: Columns, mailboxes: Iterable[Columns]) -> Person:
    """The person of a row of the person table and those of the mailbox table that belong to it."""
    boxes = sorted(mailboxes, key=lambda box: box["operator"])
    return Person(
        identifier=row["identifier"],
        status=Status(row["status"]),
        reserved=row["reserved"],
        reservation_time=row["reservation_time"],
        language=Language(row["language"]) if row["language"] else None,
        language_updated=row["language_updated_time"],
        contacts={
            kind: ContactPoint(
                value=row[kind.value],
                updated=row[f"{kind}_updated_time"],
                confirmed=row[f"{kind}_confirmed_time"],
                validated=row[f"{kind}_validated_time"],
                shared=row[f"{kind}_shared"],
            )
            for kind in ContactKind
            if row[kind.value] is not None
        },
        mailboxes=tuple(
            Mailbox(
                operator=box["operator"],
                address=box["address"],
                certificate=box["certificate"],
                operator_state=OperatorState(box["operator_state"]),
            )
            for box in boxes
        ),
        chosen=next((box["operator"] for box in boxes if box["chosen"]), None),
        change_number=row["change_number"],
        deletion_reason=DeletionReason(row["deletion_reason"]) if row["deletion_reason"] else None,
    )


def person_values(of: Person, digest: Digest) -> dict[str, Any]:
    """The columns of the person's own row."""
    values: dict[str, Any] = {
        "identifier": of.identifier,
        "status": of.status.value,
        "reserved": of.reserved,
        "reservation_time": of.reservation_time,
        "language": of.language,
        "language_updated_time": of.language_updated,
        "change_number": of.change_number,
        "deletion_reason": of.deletion_reason,
    }
    for kind, (value, updated, confirmed, validated, shared, of_digest) in _CONTACT_COLUMNS.items():
        point = of.contacts.get(kind)
        values[value] = point.value if point else None
        values[updated] = point.updated if point else None
        values[confirmed] = point.confirmed if point else None
        values[validated] = point.validated if point else None
        values[shared] = point.shared if point else False
        values[of_digest] = digest(kind, point.value) if point else None
    return values


def mailbox_values(of: Person, box: Mailbox) -> dict[str, Any]:
    """The columns of one of the person's mailboxes, less the person's id."""
    return {
        "operator": box.operator,
        "address": box.address,
        "certificate": box.certificate,
        "chosen": of.chosen == box.operator,
        "operator_state": box.operator_state.value,
    }
