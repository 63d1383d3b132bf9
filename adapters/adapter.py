"""What an adapter is: a thing that brings one leased piece of work to one supplier.

An adapter must bear doing the same work twice: a lease can run out after the supplier was
told. It raises nothing for what a supplier may do (be away, be slow, refuse): those are
outcomes. Error codes are capital letters, digits and underscores, such as "HTTP_503", and
hold nothing personal: the register keeps them.

An attempt may take two thirds of its lease. An adapter whose attribute `deadline_seconds`
says that one may take longer is refused at start-up.
"""

from dataclasses import dataclass
from typing import Protocol

from krr.v1 import delivery_service_pb2 as pb


@dataclass(frozen=True)
class Done:
    """The supplier's side is as asked for."""


@dataclass(frozen=True)
class TryLater:
    """The supplier is away or its answer was lost; another attempt may help."""

    error_code: str


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
    """A message gateway took the message."""

    gateway: str
    gateway_message_id: str


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
    - An attempt ends within `deadline_seconds`, whatever the operator does.
    - Several threads share it; an answer is about whom its request asked about.
    - Identity numbers stand in bodies, and in no log, span or address.

    adapters/template.py is one to begin from, adapters/README.md says how.
    """

    def deliver(self, delivery: pb.Delivery) -> Done | TryLater | Refused:
        """Make the operator's side what the delivery says, and read back that it is.

        A TryLater may be a Misconfigured.
        """


class MessageGateway(Protocol):
    """Sends messages on one channel."""

    def send(self, message: pb.Message) -> Sent | TryLater | Refused:
        """Hand the message over under its message_id as reference."""
