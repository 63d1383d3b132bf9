"""The operator as the checks play it: its test persons, its events, what the register holds of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from krr.v1 import mailbox_event_pb2 as event_pb
from krr.v1 import mailbox_operator_service_pb2 as pb
from krr.v1.mailbox_operator_service_pb2_grpc import MailboxOperatorServiceStub

from krr_cli.operator_checks.events import Events
from krr_cli.operator_checks.holdings import NO_MAILBOX, Holdings, described
from krr_cli.operator_checks.surprise import expect
from krr_cli.operator_checks.ways import Way
from krr_cli.show import name


@dataclass(frozen=True)
class Person:
    """A test person.

    number: its place in the list that was given, from 1; what it is called in everything shown.
    """

    number: int
    identifier: str = field(repr=False)

    def __str__(self) -> str:
        return f"person {self.number}"


class OperatorSide:
    """What a check works with.

    channel: from krr_client.connect(), with the operator's credential.
    numbers: the test persons' identifiers, and their numbers.
    other: another operator's stub, where there is one.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        numbers: Mapping[str, int],
        other: MailboxOperatorServiceStub | None = None,
    ) -> None:
        self.channel = channel
        self.stub = MailboxOperatorServiceStub(channel)
        self.other = other
        self.events = Events()
        self.holdings = Holdings(self.stub, numbers)

    def event(
        self, person: Person, *, sequence: int | None = None, **operation: Any
    ) -> event_pb.MailboxEvent:
        """An event of the person; otherwise as Events.new()."""
        return self.events.new(person.identifier, sequence=sequence, **operation)

    def may_choose(self, person: Person) -> str:
        """The result of MayChooseMailbox."""
        request = pb.MayChooseMailboxRequest(identifier=person.identifier)
        return name(pb.MailboxResult, self.stub.MayChooseMailbox(request).result)

    def expect_answer(
        self, send: Way, what: str, event: event_pb.MailboxEvent, result: str, *, duplicate: bool = False
    ) -> pb.MailboxAnswer:
        """Send the event; returns the answer, or raises Surprise where it is another one."""
        [answer] = send([event])
        expect(what, _answer(result, duplicate), answered(answer))
        return answer

    def expect_held(
        self, person: Person, content: event_pb.MailboxContent | None, *, chosen: bool = False
    ) -> None:
        """Raises Surprise where the register holds something else of the person's mailbox.

        content: None for no mailbox.
        """
        expected = NO_MAILBOX
        if content:
            expected = described(
                pb.HeldMailbox(
                    address=content.address, certificate=content.certificate, receives_public_mail=chosen
                ),
                self.events,
            )
        self.holdings.read_on()
        held = self.holdings.of(person.identifier)
        expect(f"held of {person}", expected, described(held, self.events))


def answered(answer: pb.MailboxAnswer) -> str:
    """The answer in words, without its number."""
    return _answer(name(pb.MailboxResult, answer.result), answer.duplicate)


def _answer(result: str, duplicate: bool) -> str:
    return f"{result}, duplicate" if duplicate else result
