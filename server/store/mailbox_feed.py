"""An operator's feed: its mailboxes in the order of the last change that concerned them."""

from dataclasses import dataclass

from sqlalchemy import text

from server.domain.identifiers import OrganisationNumber, PersonIdentifier
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
