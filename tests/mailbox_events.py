"""What operators push, and a plain statement of what the register must make of it."""

import uuid
from dataclasses import dataclass, field
from typing import Any

from krr.v1 import mailbox_event_pb2 as pb

from tests.people import OLA, request_id

CHOICE, REMOVAL = pb.MailboxChoice(), pb.MailboxRemoval()
NO_CERTIFICATE = b"no certificate"

Content = tuple[str, bytes]


def content(address: str, certificate: bytes = b"") -> pb.MailboxContent:
    """A mailbox at this address."""
    return pb.MailboxContent(address=address, certificate=certificate)


def event(
    identifier: str = OLA, sequence: int = 1, event_id: str | None = None, **operation: Any
) -> pb.MailboxEvent:
    """An event with a fresh id unless one is given; operation: such as delete=REMOVAL."""
    return pb.MailboxEvent(
        event_id=request_id() if event_id is None else event_id,
        identifier=identifier,
        details=pb.EventDetails(sequence=sequence),
        **operation,
    )


@dataclass
class ModelPerson:
    """A person as far as operators are concerned."""

    active: bool = True
    reserved: bool = False
    has_contact: bool = True
    mailboxes: dict[str, Content] = field(default_factory=dict)
    chosen: str = ""

    def judge(self, operator: str, operation: str, wanted: Content) -> str:
        """The result of the operation, which is not done yet."""
        held = self.mailboxes.get(operator)
        if not self.active:
            return "PERSON_NOT_FOUND"
        chooses = operation in ("choose", "create_and_choose")
        if chooses and self.reserved:
            return "RESERVED"
        if chooses and self.chosen and (operation == "choose" or self.chosen != operator):
            return "ALREADY_CHOSEN"
        if operation.startswith("create") and held not in (None, wanted):
            return "MAILBOX_EXISTS"
        if not operation.startswith("create") and held is None:
            return "NO_MAILBOX"
        if chooses and self.chosen:
            return "ALREADY_CHOSEN"
        return "CONTACT_MISSING" if chooses and not self.has_contact else "OK"

    def do(self, operator: str, operation: str, wanted: Content) -> None:
        """Do it."""
        if operation == "delete":
            del self.mailboxes[operator]
            self.chosen = "" if self.chosen == operator else self.chosen
        elif operation != "choose":
            self.mailboxes[operator] = wanted
        if operation in ("choose", "create_and_choose"):
            self.chosen = operator


@dataclass
class Model:
    """The persons by identifier; the last sequence of each operator for each of them, and the answers."""

    persons: dict[str, ModelPerson]
    sequences: dict[tuple[str, str], int] = field(default_factory=dict)
    answers: dict[tuple[str, str], tuple[pb.MailboxEvent, str]] = field(default_factory=dict)

    def answer(self, operator: str, event: pb.MailboxEvent) -> tuple[str, bool]:
        """The result of the event that comes now, and whether it is a duplicate's."""
        if not is_uuid(event.event_id):
            return "INVALID_EVENT", False
        key = operator, event.event_id
        if key in self.answers:
            first, result = self.answers[key]
            return (result, True) if first == event else ("EVENT_ID_REUSED", False)
        result = self.judge(operator, event)
        self.apply(operator, event, result)
        self.answers[key] = event, result
        return result, False

    def judge(self, operator: str, event: pb.MailboxEvent) -> str:
        """The result of the event, which comes for the first time and is not applied yet."""
        operation = event.WhichOneof("operation")
        evidence = event.details.evidence
        if operation is None or event.details.sequence < 1:
            return "INVALID_EVENT"
        if event.details.HasField("evidence") and not evidence.level:
            return "INVALID_EVENT"
        if len(event.identifier) != 11:
            return "INVALID_IDENTIFIER"
        address, certificate = wanted = _wanted(event)
        if operation not in ("choose", "delete") and len(address) < 8:
            return "INVALID_MAILBOX_ADDRESS"
        if certificate == NO_CERTIFICATE:
            return "INVALID_CERTIFICATE"
        if event.details.sequence <= self.sequences.get((operator, event.identifier), 0):
            return "OUTDATED"
        person = self.persons.get(event.identifier) or ModelPerson(active=False)
        return person.judge(operator, operation, wanted)

    def apply(self, operator: str, event: pb.MailboxEvent, result: str) -> None:
        """Do what follows from the event that was answered so."""
        operation = event.WhichOneof("operation") or ""
        if result == "OK":
            self.persons[event.identifier].do(operator, operation, _wanted(event))
        found_nothing = operation == "delete" and result in ("NO_MAILBOX", "PERSON_NOT_FOUND")
        if result == "OK" or found_nothing:
            self.sequences[operator, event.identifier] = event.details.sequence


def is_uuid(text: str) -> bool:
    """Whether it is a UUID in its usual form."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _wanted(event: pb.MailboxEvent) -> Content:
    given = getattr(event, event.WhichOneof("operation") or "", None)
    return getattr(given, "address", ""), getattr(given, "certificate", b"")
