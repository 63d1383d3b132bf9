"""What became of work that an adapter leased."""

from dataclasses import dataclass
from datetime import timedelta

from server.domain.identifiers import MailboxAddress


@dataclass(frozen=True)
class Done:
    """The operator's side is as asked for.

    mailbox_address: of the account, where it was to be opened.
    """

    mailbox_address: MailboxAddress | None = None


@dataclass(frozen=True)
class Sent:
    """A gateway took the message."""

    gateway: str
    gateway_message_id: str


@dataclass(frozen=True)
class TryLater:
    """Worth another attempt after the delay."""

    delay: timedelta
    error_code: str


@dataclass(frozen=True)
class Refused:
    """No attempt will help as things are."""

    error_code: str
