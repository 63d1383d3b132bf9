"""What the register says that it holds, as the operator's own feed tells it."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from krr.v1 import mailbox_event_pb2 as event_pb
from krr.v1 import mailbox_operator_service_pb2 as pb
from krr.v1.mailbox_operator_service_pb2_grpc import MailboxOperatorServiceStub

from krr_cli.operator_checks.events import Events
from krr_cli.operator_checks.surprise import Surprise

NO_MAILBOX = "no mailbox"


class Holdings:
    """The mailboxes of the test persons, kept up to date by ListMailboxes.

    numbers: the test persons' identifiers, and what they are called.
    cursor: how far the feed was read.
    """

    def __init__(self, stub: MailboxOperatorServiceStub, numbers: Mapping[str, int]) -> None:
        self._stub = stub
        self.numbers = numbers
        self._held: dict[str, pb.HeldMailbox] = {}
        self.cursor = ""

    def read_on(self, *, page_size: int = 1000) -> list[pb.HeldMailbox]:
        """Read what has changed, to the end; returns it in the order in which it came.

        Raises RegisterError; and Surprise where the pages are not as the contract has them.
        """
        found: list[pb.HeldMailbox] = []
        while True:
            request = pb.ListMailboxesRequest(after_cursor=self.cursor, page_size=page_size)
            page = self._stub.ListMailboxes(request)
            if not page.cursor:
                raise Surprise("a cursor on every page", "a page without")
            if len(page.mailboxes) > page_size:
                raise Surprise(f"{page_size} mailboxes on a page at most", f"{len(page.mailboxes)}")
            if not page.mailboxes and not page.caught_up:
                raise Surprise("a page without mailboxes only at the end of the feed", "one before it")
            in_rising_order(page.mailboxes)
            found.extend(page.mailboxes)
            self.cursor = page.cursor
            if page.caught_up:
                break
        for mailbox in found:
            self._held[mailbox.identifier] = mailbox
        return found

    def of(self, identifier: str) -> pb.HeldMailbox:
        """The person's mailbox, as of the last reading."""
        return self._held.get(identifier) or pb.HeldMailbox(identifier=identifier)

    def strangers(self, mailboxes: Sequence[pb.HeldMailbox]) -> int:
        """How many of the mailboxes are of nobody among the test persons."""
        return sum(mailbox.identifier not in self.numbers for mailbox in mailboxes)


def in_rising_order(mailboxes: Sequence[pb.HeldMailbox]) -> None:
    """Pass where change numbers rise and each person comes once. Raises Surprise."""
    numbers = [mailbox.change_number for mailbox in mailboxes]
    if any(before >= after for before, after in pairwise(numbers)):
        raise Surprise("rising change numbers on a page of the feed", "one that is not above the one before")
    if len({mailbox.identifier for mailbox in mailboxes}) < len(mailboxes):
        raise Surprise("each person at most once on a page of the feed", "one person twice")


def described(held: pb.HeldMailbox, events: Events) -> str:
    """What is held, in words that show no address."""
    if not held.address:
        return f"{NO_MAILBOX}, but public mail" if held.receives_public_mail else NO_MAILBOX
    content = event_pb.MailboxContent(address=held.address, certificate=held.certificate)
    return f"{events.called(content)}{', chosen' if held.receives_public_mail else ''}"
