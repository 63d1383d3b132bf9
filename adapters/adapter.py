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
class Refused:
    """No attempt will help until the person, or the configuration, changes."""

    error_code: str


@dataclass(frozen=True)
class Sent:
    """A message gateway took the message."""

    gateway: str
    gateway_message_id: str


class MailboxAdapter(Protocol):
    """Keeps one mailbox operator in step with the register."""

    def deliver(self, delivery: pb.Delivery) -> Done | TryLater | Refused:
        """Make the operator's side what the delivery says, and read back that it is."""


class MessageGateway(Protocol):
    """Sends messages on one channel."""

    def send(self, message: pb.Message) -> Sent | TryLater | Refused:
        """Hand the message over under its message_id as reference."""
