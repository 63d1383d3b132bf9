"""MailboxOperatorService: what operators report about their own mailboxes."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

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
from server.store.store import Store
from server.store.transaction import Answer, Transaction
from server.tokens import Tokens

_Create = pb.CreateMailboxRequest | pb.CreateAndChooseMailboxRequest
_Write = _Create | pb.MailboxOperatorServiceChooseMailboxRequest | pb.DeleteMailboxRequest


@dataclass(frozen=True)
class MailboxOperatorService:
    """One method for each RPC of mailbox_operator_service.proto, in its order."""

    store: Store
    tokens: Tokens
    now: Callable[[], datetime]
    parse_identifier: Callable[[str], PersonIdentifier]

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
            return Answer("MAILBOX_RESULT_OK", transaction.record(change, now))

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


def _result(refusal: Refusal) -> str:
    """The result that stands for the refusal; raises the refusal itself where none does."""
    reason = refusal.reason
    if reason is Reason.SYNTHETIC_IDENTIFIER:
        reason = Reason.INVALID_IDENTIFIER
    name = f"MAILBOX_RESULT_{reason.name}"
    if name not in pb.MailboxResult.keys():  # noqa: SIM118 (an enum wrapper, no dict)
        raise refusal
    return name
