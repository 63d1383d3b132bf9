"""MailboxOperatorService: what operators report about their own mailboxes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from krr.v1 import mailbox_operator_service_pb2 as pb

from server import translate
from server.call import Call
from server.domain.errors import Reason, Refusal
from server.domain.identifiers import (
    OrganisationNumber,
    PersonIdentifier,
    parse_mailbox_address,
)
from server.domain.person import Change, Mailbox, Person
from server.feed import Feed, Page
from server.store.mailbox_feed import HeldMailbox, changed_mailboxes
from server.store.store import Store
from server.store.transaction import Answer, Reader, Transaction
from server.tokens import Tokens

_Create = pb.CreateMailboxRequest | pb.CreateAndChooseMailboxRequest
_Write = _Create | pb.MailboxOperatorServiceChooseMailboxRequest | pb.DeleteMailboxRequest
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
            return pb.MayChooseMailboxResponse(result=pb.MailboxResult.Value(_result(refusal)))
        return pb.MayChooseMailboxResponse(result=pb.MAILBOX_RESULT_MAY_CHOOSE)

    def CreateMailbox(self, request: pb.CreateMailboxRequest, call: Call) -> pb.CreateMailboxResponse:
        def verb(person: Person, operator: OrganisationNumber) -> Person:
            return person.create_mailbox(_mailbox(operator, request))

        return pb.CreateMailboxResponse(answer=self._write(request, call, verb))

    def ChooseMailbox(
        self, request: pb.MailboxOperatorServiceChooseMailboxRequest, call: Call
    ) -> pb.MailboxOperatorServiceChooseMailboxResponse:
        answer = self._write(request, call, Person.fill_choice)
        return pb.MailboxOperatorServiceChooseMailboxResponse(answer=answer)

    def CreateAndChooseMailbox(
        self, request: pb.CreateAndChooseMailboxRequest, call: Call
    ) -> pb.CreateAndChooseMailboxResponse:
        def verb(person: Person, operator: OrganisationNumber) -> Person:
            return person.create_and_choose_mailbox(_mailbox(operator, request))

        return pb.CreateAndChooseMailboxResponse(answer=self._write(request, call, verb))

    def DeleteMailbox(self, request: pb.DeleteMailboxRequest, call: Call) -> pb.DeleteMailboxResponse:
        return pb.DeleteMailboxResponse(answer=self._write(request, call, Person.delete_mailbox))

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

    def _write(
        self, request: _Write, call: Call, verb: Callable[[Person, OrganisationNumber], Person]
    ) -> pb.MailboxAnswer:
        operator = self._operator(call)
        now = self.now()

        def do(transaction: Transaction) -> Answer:
            # A refusal is an answer like any other: kept with the event and given again.
            try:
                before = transaction.person(self.parse_identifier(request.identifier))
                change = Change(before, verb(before, operator))
            except Refusal as refusal:
                return Answer(_result(refusal))
            [number] = transaction.record([change], now)
            return Answer("MAILBOX_RESULT_OK", number)

        answer = self.store.write(
            call.caller,
            do,
            deadline=call.deadline,
            request=translate.write_request(request, request.event_id, "event_id"),
        )
        number = answer.change_number
        return pb.MailboxAnswer(
            result=pb.MailboxResult.Value(answer.result),
            change_number=number,
            freshness_token=self.tokens.freshness(number) if number else "",
            duplicate=answer.duplicate,
        )

    def _operator(self, call: Call) -> OrganisationNumber:
        operator = OrganisationNumber(call.caller.subject)
        if operator not in self.store.operators:
            raise Refusal(Reason.CALLER_NOT_ALLOWED)
        return operator


def _mailbox(operator: OrganisationNumber, request: _Create) -> Mailbox:
    return Mailbox(
        operator=operator,
        address=parse_mailbox_address(request.address),
        certificate=translate.certificate_from("certificate", request.certificate),
    )


def _held_mailbox_to(mailbox: HeldMailbox) -> pb.HeldMailbox:
    return pb.HeldMailbox(
        identifier=mailbox.identifier,
        address=mailbox.address or "",
        certificate=mailbox.certificate or b"",
        receives_public_mail=mailbox.receives_public_mail,
        change_number=mailbox.change_number,
    )


def _result(refusal: Refusal) -> str:
    """The result that stands for the refusal; raises the refusal itself where none does."""
    reason = refusal.reason
    if reason is Reason.SYNTHETIC_IDENTIFIER:
        reason = Reason.INVALID_IDENTIFIER
    name = f"MAILBOX_RESULT_{reason.name}"
    if name not in pb.MailboxResult.keys():  # noqa: SIM118 (an enum wrapper, no dict)
        raise refusal
    return name
