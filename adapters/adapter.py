"""What an adapter is: a thing that brings one leased piece of work to one supplier.

An adapter must bear doing the same work twice: a lease can run out after the supplier was
told. It raises nothing for what a supplier may do (be away, be slow, refuse): those are
outcomes. Error codes are capital letters, digits and underscores, such as "HTTP_503", and
hold nothing personal: the register keeps them.

An attempt may take two thirds of its lease. An adapter whose attribute `deadline_seconds`
says that one may take longer is refused at start-up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from krr.v1 import delivery_service_pb2 as pb


@dataclass(frozen=True)
class Done:
    """The supplier's side is as asked for.

    mailbox_address: of the account, where the delivery asked to open one; else empty.
    """

    mailbox_address: str = ""


@dataclass(frozen=True)
class TryLater:
    """The supplier is away or its answer was lost; another attempt may help.

    wait_seconds: how long to wait at least, such as for the receipt of a message that is not likely
        to have been taken, and may have been.
    """

    error_code: str
    wait_seconds: float = field(default=0.0, kw_only=True)


@dataclass(frozen=True)
class Unsure(TryLater):
    """The gateway may have taken the message: the answer was lost.

    The register waits for a receipt, sends the message once more, and leaves it at that. A gateway
    says TryLater only where it knows that the message was not taken, or can hardly have been.
    """


@dataclass(frozen=True)
class Misconfigured(TryLater):
    """The supplier refuses the adapter itself, whoever the work is about: a wrong key, a missing permission.

    The register is told TryLater, so nothing is lost or refused. The runner logs an error,
    `adapter misconfigured`, and leases one piece at a long interval until one gets through.
    """


@dataclass(frozen=True)
class Refused:
    """No attempt will help until the person, or the configuration, changes."""

    error_code: str


@dataclass(frozen=True)
class Sent:
    """A message gateway took the message.

    gateway: its name, a code such as "LINK_MYLINK".
    gateway_message_id: what it calls the message, at most 100 characters; its receipts say so too.
    parts: in how many parts or pages it goes, 0 where that is not known.
    cost_class: what each of them costs.
    """

    gateway: str
    gateway_message_id: str
    parts: int = 0
    cost_class: pb.CostClass.ValueType = pb.COST_CLASS_UNSPECIFIED


@dataclass(frozen=True)
class AccountState:
    """What the operator says of one person; None where it does not tell.

    receives_public_mail: whether it receives the person's public mail; False where there is no
        account.
    certificate: the person's own, X.509 in DER; empty for none.
    """

    receives_public_mail: bool
    account_exists: bool | None = None
    address: str | None = None
    certificate: bytes | None = None


@dataclass(frozen=True)
class AccountPage:
    """A part of the operator's list: all its accounts between the identifier asked for and the last here.

    accounts: identifier and state, by rising identifier, each above the one asked for; at most 1000.
        Only an account that exists is listed.
    is_last: whether the operator has no account above these.
    """

    accounts: Sequence[tuple[str, AccountState]]
    is_last: bool


class MailboxAdapter(Protocol):
    """Keeps one mailbox operator in step with the register.

    What the conformance suite (tests/adapters/conformance.py) asks of one, at each request:

    - It reads, writes where that differs from the wish, and reads again. It trusts its memory
      of nobody: the operator's staff, a late request and another process change accounts too.
    - Done is what it has read. Refused is what the operator itself said in its own words, about
      this person. Everything else is TryLater: silence, a cut, an unknown status, a proxy's page,
      a clock that is off; and Misconfigured where the operator does not let the adapter in.
    - NO_ACCOUNT, as the code of a Refused, is what the citizen sees. To switch off where there is
      no account is Done.
    - Where the delivery has `open_account`: the operator opens an account, or says that there is one,
      and its address is in the Done. Nothing is switched; the next delivery does that. An adapter
      whose operator opens none on the register's word says Refused("ACCOUNT_NOT_OPENED").
    - An attempt ends within `deadline_seconds`, whatever the operator does.
    - Several threads share it; an answer is about whom its request asked about.
    - Identity numbers stand in bodies, and in no log, span or address.

    adapters/template.py is one to begin from, adapters/README.md says how.
    """

    def deliver(self, delivery: pb.Delivery) -> Done | TryLater | Refused:
        """Make the operator's side what the delivery says, and read back that it is.

        A TryLater may be a Misconfigured.
        """


@runtime_checkable
class AccountReader(Protocol):
    """What a MailboxAdapter is as well, where the register may be compared with the operator.

    Optional: of an adapter without `read` nothing is compared, and a sweep of its operator does
    not get on. The rules of MailboxAdapter hold for a read too; and reading changes nothing.
    """

    def read(self, identifier: str) -> AccountState | TryLater:
        """What the operator says of the person now. A TryLater may be a Misconfigured.

        That there is no account is what the operator itself says in its own words. Whatever else
        is no answer is TryLater: an account that is taken for absent is removed from the register.
        """


@runtime_checkable
class AccountLister(AccountReader, Protocol):
    """An AccountReader whose operator lists its accounts too: far fewer requests for the same sweep.

    Optional. Persons who seem to differ by the list are read singly all the same.
    """

    def list_after(self, identifier: str) -> AccountPage | TryLater:
        """The part of the list above the identifier; from the first account on where that is empty.

        TryLater, which may be a Misconfigured, wherever the part may not be whole.
        """


class MessageGateway(Protocol):
    """Sends messages on one channel."""

    def send(self, message: pb.Message) -> Sent | TryLater | Refused:
        """Hand the message over under its message_id as reference. A TryLater may be an Unsure."""
