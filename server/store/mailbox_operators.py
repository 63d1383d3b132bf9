"""Mailbox operators that the configuration adds to those that the register came with."""

from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

# Servers that start together would else find each other's row by its adapter, and not as a
# conflict. Nobody who only reads the table, or refers to it, waits.
_LOCK = text("LOCK TABLE mailbox_operator IN SHARE ROW EXCLUSIVE MODE")

_ENTER = text("""
    INSERT INTO mailbox_operator (organisation_number, name, adapter, opens_accounts)
    VALUES (:organisation_number, :name, :adapter, :opens_accounts)
    ON CONFLICT (organisation_number) DO UPDATE SET name = excluded.name, adapter = excluded.adapter,
        opens_accounts = excluded.opens_accounts
    WHERE (mailbox_operator.name, mailbox_operator.adapter, mailbox_operator.opens_accounts)
        <> (excluded.name, excluded.adapter, excluded.opens_accounts)
""")


class AdapterTaken(Exception):
    """Two operators cannot have one adapter; the text names the setting."""


class MailboxOperator(Protocol):
    """What the register knows of an operator.

    adapter: the name under which its adapter leases deliveries.
    opens_accounts: whether it opens accounts for citizens who ask for one in the choice.
    """

    @property
    def organisation_number(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def adapter(self) -> str: ...
    @property
    def opens_accounts(self) -> bool: ...


def enter_mailbox_operators(connection: Connection, operators: Sequence[MailboxOperator]) -> None:
    """Enter the operators, or their new names and adapters. The caller commits.

    One that is no longer named stays: persons may have mailboxes there. Raises AdapterTaken.
    """
    if operators:
        connection.execute(_LOCK)
    for operator in operators:
        try:
            connection.execute(
                _ENTER,
                {
                    "organisation_number": operator.organisation_number,
                    "name": operator.name,
                    "adapter": operator.adapter,
                    "opens_accounts": operator.opens_accounts,
                },
            )
        except IntegrityError:
            raise AdapterTaken(
                f"KRR_MAILBOX_OPERATORS: the adapter {operator.adapter} is another operator's"
            ) from None
