"""What the conformance suite needs of an operator."""

from contextlib import AbstractContextManager
from typing import Protocol

from adapters.adapter import MailboxAdapter

# Seconds: generous for what is expected to come, short for what is expected not to.
LONG, SHORT = 30.0, 0.5


class Operator(Protocol):
    """A running sandbox of an operator, and adapters to it.

    identity_in_addresses: whether the operator's interface asks for the identity number in an
        address. Where it need not stand there, it must not.
    signed_from: the first answer to a new adapter, counted from 0, of which it can be told that it
        was changed on its way; None where that is for TLS alone to see.
    """

    url: str
    identity_in_addresses: bool
    signed_from: int | None

    def begin_anew(self) -> None:
        """Well-behaved; PERSON has an account that receives no public mail, WITHOUT_ACCOUNT has none."""

    def adapter_for(self, url: str, deadline_seconds: float) -> MailboxAdapter:
        """An adapter that reaches the operator at that address."""

    def strangers_adapter(self, url: str) -> MailboxAdapter:
        """One whose credential (token, key, certificate) the operator does not accept."""

    def seed(self, *, receives: bool) -> None:
        """Change PERSON's account as the operator's own staff might."""

    def receives_public_mail(self) -> bool:
        """Whether PERSON's account does, asked beside the adapter."""

    def refusing(self) -> AbstractContextManager[None]:
        """Meanwhile the operator refuses, for good, to change PERSON's account."""

    def clock_off(self) -> AbstractContextManager[None]:
        """Meanwhile the operator's clock is an hour ahead; changes nothing where it has none."""
