"""MailboxOperatorService: what operators report about their own mailboxes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TypeVar

from krr.v1 import mailbox_operator_service_pb2 as pb

from server import translate
from server.call import Call
from server.domain.errors import Reason, Refusal
from server.domain.identifiers import OrganisationNumber, PersonIdentifier
from server.feed import Feed, Page
from server.mailbox_events import MailboxEvents, result_of
from server.store.mailbox_feed import HeldMailbox, changed_mailboxes
from server.store.store import Store
from server.store.transaction import Reader
from server.tokens import Tokens

_Write = (
    pb.CreateMailboxRequest
    | pb.MailboxOperatorServiceChooseMailboxRequest
    | pb.CreateAndChooseMailboxRequest
    | pb.UpdateMailboxRequest
    | pb.DeleteMailboxRequest
)
Response = TypeVar("Response", pb.ListMailboxesResponse, pb.WatchMailboxesResponse)


@dataclass(frozen=True)
class MailboxOperatorService:
    """One method for each RPC of mailbox_operator_service.proto, in its order."""

    store: Store
    tokens: Tokens
    now: Callable[[], datetime]
    parse_identifier: Callable[[str], PersonIdentifier]
    feed: Feed[Reader]

    def MayChooseMailbox(
        self, request: pb.MayChooseMailboxRequest, call: Call
    ) -> pb.MayChooseMailboxResponse:
        self._operator(call)
        try:
            identifier = self.parse_identifier(request.identifier)
            persons = self.store.read(lambda reader: reader.persons([identifier]), deadline=call.deadline)
            persons[identifier].may_choose_mailbox()
        except Refusal as refusal:
            return pb.MayChooseMailboxResponse(result=pb.MailboxResult.Value(result_of(refusal)))
        return pb.MayChooseMailboxResponse(result=pb.MAILBOX_RESULT_MAY_CHOOSE)

    def CreateMailbox(self, request: pb.CreateMailboxRequest, call: Call) -> pb.CreateMailboxResponse:
        return pb.CreateMailboxResponse(answer=self._write(request, call, "create"))

    def ChooseMailbox(
        self, request: pb.MailboxOperatorServiceChooseMailboxRequest, call: Call
    ) -> pb.MailboxOperatorServiceChooseMailboxResponse:
        answer = self._write(request, call, "choose")
        return pb.MailboxOperatorServiceChooseMailboxResponse(answer=answer)

    def CreateAndChooseMailbox(
        self, request: pb.CreateAndChooseMailboxRequest, call: Call
    ) -> pb.CreateAndChooseMailboxResponse:
        return pb.CreateAndChooseMailboxResponse(answer=self._write(request, call, "create_and_choose"))

    def UpdateMailbox(self, request: pb.UpdateMailboxRequest, call: Call) -> pb.UpdateMailboxResponse:
        return pb.UpdateMailboxResponse(answer=self._write(request, call, "update"))

    def DeleteMailbox(self, request: pb.DeleteMailboxRequest, call: Call) -> pb.DeleteMailboxResponse:
        return pb.DeleteMailboxResponse(answer=self._write(request, call, "delete"))

    def PushEvents(
        self, requests: Iterator[pb.PushEventsRequest], call: Call
    ) -> Iterator[pb.PushEventsResponse]:
        return self._events.push(requests, call, self._operator(call))

    def ListMailboxes(self, request: pb.ListMailboxesRequest, call: Call) -> pb.ListMailboxesResponse:
        wait = translate.wait_from(request)
        after, page_size = self._start(request)
        read = self._page_reader(pb.ListMailboxesResponse, self._operator(call), page_size)
        return self.feed.page(read, after, call, wait).response

    def WatchMailboxes(
        self, request: pb.WatchMailboxesRequest, call: Call
    ) -> Iterator[pb.WatchMailboxesResponse]:
        after, page_size = self._start(request)
        operator = self._operator(call)
        read = self._page_reader(pb.WatchMailboxesResponse, operator, page_size)
        return self.feed.pages(read, after, call, (operator, page_size))

    def _start(self, request: pb.ListMailboxesRequest | pb.WatchMailboxesRequest) -> tuple[int, int]:
        after = self.tokens.read_mailbox_cursor(request.after_cursor)
        return after, translate.page_size_from(request.page_size)

    def _page_reader(
        self, response: Callable[..., Response], operator: OrganisationNumber, page_size: int
    ) -> Callable[[Reader, int], Page[Response]]:
        def read(reader: Reader, after: int) -> Page[Response]:
            # Read first: the page shows all up to there, also what concerns other operators only.
            reached = reader.last_change_number()
            mailboxes = changed_mailboxes(reader, operator, after, page_size)
            caught_up = len(mailboxes) < page_size
            found = mailboxes[-1].change_number if mailboxes else after
            last = max(reached, found) if caught_up else found
            message = response(
                mailboxes=[_held_mailbox_to(mailbox) for mailbox in mailboxes],
                cursor=self.tokens.mailbox_cursor(last),
                caught_up=caught_up,
            )
            return Page(message, last, caught_up, empty=not mailboxes)

        return read

    @cached_property
    def _events(self) -> MailboxEvents:
        return MailboxEvents(self.store, self.tokens, self.now, self.parse_identifier)

    def _write(self, request: _Write, call: Call, operation: str) -> pb.MailboxAnswer:
        return self._events.write(request, call, self._operator(call), operation)

    def _operator(self, call: Call) -> OrganisationNumber:
        operator = OrganisationNumber(call.caller.subject)
        if operator not in self.store.operators:
            raise Refusal(Reason.CALLER_NOT_ALLOWED)
        return operator


def _held_mailbox_to(mailbox: HeldMailbox) -> pb.HeldMailbox:
    return pb.HeldMailbox(
        identifier=mailbox.identifier,
        address=mailbox.address or "",
        certificate=mailbox.certificate or b"",
        receives_public_mail=mailbox.receives_public_mail,
        change_number=mailbox.change_number,
    )
