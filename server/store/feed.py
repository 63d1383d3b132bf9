"""The feeds: persons, and each operator's mailboxes, in the order of their last change."""

from dataclasses import dataclass

from sqlalchemy import select, text

from server.domain.identifiers import OrganisationNumber, PersonIdentifier
from server.domain.person import Person
from server.store import tables
from server.store.rows import load_persons, persons_in_one_statement
from server.store.transaction import Reader


@dataclass(frozen=True)
class HeldMailbox:
    """What the register holds of one person's mailbox at an operator.

    address: None where the mailbox is gone.
    """

    identifier: PersonIdentifier
    address: str | None
    certificate: bytes | None
    receives_public_mail: bool
    change_number: int


def changed_persons(reader: Reader, after: int, limit: int) -> list[Person]:
    """The next persons by change number after `after`, exclusive; tombstones included."""
    page = (
        select(tables.person)
        .where(tables.person.c.change_number > after)
        .order_by(tables.person.c.change_number)
        .limit(limit)
        .subquery("page")
    )
    statement = persons_in_one_statement(page).order_by(page.c.change_number)
    return list(load_persons(reader.connection, statement).values())


_CHANGED_MAILBOXES = text("""
    SELECT person.identifier, mailbox.address, mailbox.certificate,
        person.status = 'ACTIVE' AND NOT person.reserved AND coalesce(mailbox.chosen, false)
            AS receives_public_mail,
        mailbox_change.change_number
    FROM mailbox_change
    JOIN person ON person.id = mailbox_change.person_id
    LEFT JOIN mailbox ON mailbox.person_id = mailbox_change.person_id
        AND mailbox.operator = mailbox_change.operator
    WHERE mailbox_change.operator = :operator AND mailbox_change.change_number > :after
    ORDER BY mailbox_change.change_number
    LIMIT :limit
""")


def changed_mailboxes(
    reader: Reader, operator: OrganisationNumber, after: int, limit: int
) -> list[HeldMailbox]:
    """The operator's next mailboxes by the number of the last change that concerned them,
    after `after`, exclusive; those that are gone included.
    """
    rows = reader.connection.execute(
        _CHANGED_MAILBOXES, {"operator": operator, "after": after, "limit": limit}
    )
    return [HeldMailbox(*row) for row in rows]
