"""What the contract says that events do, as a model that the register's answers are held against."""

from dataclasses import dataclass, field

from krr.v1 import mailbox_event_pb2 as event_pb


@dataclass
class Mailboxes:
    """A person's mailbox at the operator, and what was applied to it.

    The person is ACTIVE with contact info, not reserved, and has chosen no other operator.
    """

    content: event_pb.MailboxContent | None = None
    chosen: bool = False
    sequence: int = 0

    def apply(self, event: event_pb.MailboxEvent) -> str:
        """The result of a sound event that came in first."""
        operation = event.WhichOneof("operation")
        sequence = event.details.sequence
        if sequence <= self.sequence:
            return "OUTDATED"
        result = self._done(str(operation), event)
        if result == "OK" or operation == "delete":
            self.sequence = sequence
        return result

    def _done(self, operation: str, event: event_pb.MailboxEvent) -> str:
        if operation == "choose":
            return self._choose()
        if operation == "delete":
            found = self.content
            self.content, self.chosen = None, False
            return "OK" if found else "NO_MAILBOX"
        content: event_pb.MailboxContent = getattr(event, operation)
        if operation == "update":
            if not self.content:
                return "NO_MAILBOX"
        elif self.content and self.content != content:
            return "MAILBOX_EXISTS"
        self.content = content
        return self._choose() if operation == "create_and_choose" else "OK"

    def _choose(self) -> str:
        if self.chosen:
            return "ALREADY_CHOSEN"
        if not self.content:
            return "NO_MAILBOX"
        self.chosen = True
        return "OK"


@dataclass
class Model:
    """All test persons, by identifier, and the answers given so far, by event id."""

    persons: dict[str, Mailboxes] = field(default_factory=dict)
    results: dict[str, str] = field(default_factory=dict)

    def answer(self, event: event_pb.MailboxEvent) -> str:
        """The result of the event, sent for the first time or again."""
        if event.event_id not in self.results:
            person = self.persons.setdefault(event.identifier, Mailboxes())
            self.results[event.event_id] = person.apply(event)
        return self.results[event.event_id]
