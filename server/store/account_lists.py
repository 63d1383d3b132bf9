"""An operator's list of its accounts, compared part by part with what the register holds."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import text

from server.domain.comparison import Account, differences
from server.domain.errors import InvalidValue, Reason
from server.domain.identifiers import PersonIdentifier
from server.store import sweeps
from server.store.sweeps import Sweep
from server.store.transaction import Transaction

# The register's own mailboxes that are looked at with one part.
_MOST_OF_OURS = 2000
_NO_ACCOUNT = Account(receives_public_mail=False, exists=False)


@dataclass(frozen=True)
class AccountsRead:
    """A part of an operator's list.

    accounts: None for one that cannot be told from the list.
    last_identifier: up to which the part goes; None where nothing comes after it.
    """

    accounts: Mapping[PersonIdentifier, Account | None]
    last_identifier: str | None


_OURS = text("""
    SELECT person.identifier FROM person JOIN mailbox ON mailbox.person_id = person.id
    WHERE mailbox.operator = :operator AND person.identifier > :after
      AND (CAST(:last AS text) IS NULL OR person.identifier <= :last)
    ORDER BY person.identifier LIMIT :limit
""")

_PERSONS_BETWEEN = text("""
    SELECT count(*) FROM person
    WHERE identifier > :after AND (CAST(:last AS text) IS NULL OR identifier <= :last)
""")

_SUSPECT = text("""
    INSERT INTO comparison (sweep_id, person_id, change_number, not_before_time, failed_attempts)
    SELECT :sweep_id, id, change_number, now(), 0 FROM person WHERE identifier = ANY(:identifiers)
    ON CONFLICT (sweep_id, person_id) DO NOTHING
""")


def compare_part(transaction: Transaction, running: Sweep, after: str, read: AccountsRead) -> str | None:
    """Compare the part of the list after the identifier; where the next one begins, None for the last.

    Who differs is to be read singly before anything is repaired: the part is older than the register
    is by now. Accounts of those who are not in the register are passed over.

    running: locked.

    Raises InvalidValue: INVALID_FIELD where the part begins before it should.
    """
    execute = transaction.connection.execute
    if any(each <= after for each in (*read.accounts, read.last_identifier) if each is not None):
        raise InvalidValue(Reason.INVALID_FIELD, "accounts", "above the identifier asked for")
    last = read.last_identifier
    bounds = {"operator": running.operator, "after": after, "limit": _MOST_OF_OURS}
    ours = execute(_OURS, {**bounds, "last": last}).scalars().all()
    if len(ours) == _MOST_OF_OURS:
        # The rest with the next part.
        last = ours[-1]
    part = {each for each in (*ours, *read.accounts) if last is None or each <= last}
    suspects = []
    for person in transaction.persons(sorted(part)).values():
        account = read.accounts.get(person.identifier, _NO_ACCOUNT)
        if account is None or differences(person, running.operator, account):
            suspects.append(person.identifier)
    suspected = execute(_SUSPECT, {"sweep_id": running.id, "identifiers": suspects}).rowcount
    persons: int = execute(_PERSONS_BETWEEN, {"after": after, "last": last}).scalar_one()
    sweeps.count(transaction, running.id, compared_count=persons - suspected)
    return last
