"""Accounts that citizens asked operators to open: a mark on a delivery, one for each person at most."""

from dataclasses import dataclass

from sqlalchemy import text

from server.domain.identifiers import OrganisationNumber, PersonIdentifier
from server.domain.person import OperatorState, Person
from server.store.mailbox_writes import withdraw_account_requests
from server.store.prepared import Statement
from server.store.trace_parent import current_trace_parent
from server.store.transaction import Reader, Transaction


@dataclass(frozen=True)
class AccountRequest:
    """An account that an operator was asked to open.

    state: PENDING or REFUSED.
    """

    operator: OrganisationNumber
    state: OperatorState


# A lease that is out showed no such request: its outcome must not count.
_REQUEST = Statement(
    "request_account",
    """
    INSERT INTO delivery (person_id, operator, change_number, created_time, not_before_time,
        failed_attempts, refused, trace_parent, open_account)
    VALUES (%(person_id)s, %(operator)s, %(change_number)s, now(), now(), 0, false, %(trace_parent)s, true)
    ON CONFLICT (person_id, operator) DO UPDATE SET change_number = excluded.change_number,
        created_time = excluded.created_time, not_before_time = excluded.not_before_time,
        failed_attempts = 0, last_error_code = NULL, refused = false,
        trace_parent = excluded.trace_parent, open_account = true, leased_change_number = NULL
    """,
)

_FIND = text("""
    SELECT delivery.operator, delivery.refused
    FROM delivery JOIN person ON person.id = delivery.person_id
    WHERE person.identifier = :identifier AND delivery.open_account
""")


def request_account(transaction: Transaction, person: Person, operator: OrganisationNumber) -> None:
    """Have the operator open an account, in place of what another was asked; again where it refused.

    person: registered, and locked by the transaction. Nothing of it changes.
    """
    person_id = transaction.row_id(person.identifier)
    withdraw_account_requests(transaction.run, [person_id])
    transaction.run(
        _REQUEST,
        person_id=person_id,
        operator=operator,
        change_number=person.change_number,
        trace_parent=current_trace_parent(),
    )


def withdraw_account_request(transaction: Transaction, identifier: PersonIdentifier) -> None:
    """Withdraw what an operator was asked, if any was. The person is locked by the transaction."""
    withdraw_account_requests(transaction.run, [transaction.row_id(identifier)])


def find_account_request(reader: Reader, identifier: PersonIdentifier) -> AccountRequest | None:
    """The account that an operator is asked to open for the person; None where none is."""
    found = reader.connection.execute(_FIND, {"identifier": identifier}).one_or_none()
    if found is None:
        return None
    state = OperatorState.REFUSED if found.refused else OperatorState.PENDING
    return AccountRequest(found.operator, state)
