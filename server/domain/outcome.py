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
    """A gateway took the message.

    parts: in how many parts or pages it went, None where that is not known.
    cost_class: what each costs, a name of the contract's CostClass without prefix.
    """

    gateway: str
    gateway_message_id: str
    parts: int | None = None
    cost_class: str | None = None


@dataclass(frozen=True)
class TryLater:
    """Worth another attempt after the delay."""

    delay: timedelta
    error_code: str


@dataclass(frozen=True)
class Unsure:
    """A gateway may have taken the message. Worth another attempt after the delay, unless its
    receipt comes."""

    delay: timedelta
    error_code: str


@dataclass(frozen=True)
class Refused:
    """No attempt will help as things are."""

    error_code: str
