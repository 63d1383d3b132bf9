"""CitizenService: what a citizen does with the own entry."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from krr.v1 import citizen_service_pb2 as pb
from krr.v1 import person_pb2

from server import translate
from server.call import Call
from server.domain.caller import CallerKind
from server.domain.change import Change
from server.domain.contact import ContactKind, comparable, parse_email, parse_mobile
from server.domain.errors import InvalidValue, Reason, Refusal
from server.domain.identifiers import PersonIdentifier
from server.domain.person import DeletionReason, Person
from server.domain.rules import MAX_BATCH
from server.domain.verification import CODE_LIFETIME, RESEND_AFTER
from server.feed import must_be_fresh
from server.store.account_requests import (
    AccountRequest,
    find_account_request,
    request_account,
    withdraw_account_request,
)
from server.store.history import list_history
from server.store.store import Store
from server.store.transaction import Answer, Reader, Transaction
from server.store.verification import send_code, try_code
from server.tokens import Tokens

_PARSE: Mapping[ContactKind, Callable[[str], str]] = {
    ContactKind.EMAIL: parse_email,
    ContactKind.MOBILE: parse_mobile,
}

_DEFAULT_PAGE = 100
_CODE = re.compile("[0-9]{6}")

_Conditional = (
    pb.RegisterPersonRequest
    | pb.UpdateContactRequest
    | pb.ConfirmContactRequest
    | pb.SetLanguageRequest
    | pb.ReserveRequest
    | pb.CancelReservationRequest
    | pb.ChooseMailboxRequest
    | pb.DeletePersonRequest
)
_Write = _Conditional | pb.SendVerificationCodeRequest | pb.VerifyContactRequest


@dataclass(frozen=True)
class CitizenService:
    """One method for each RPC of citizen_service.proto, in its order."""

    store: Store
    tokens: Tokens
    now: Callable[[], datetime]
    parse_identifier: Callable[[str], PersonIdentifier]

    def GetPerson(self, request: pb.GetPersonRequest, call: Call) -> pb.GetPersonResponse:
        identifier = self._own_identifier(request.identifier, call)
        fresh = self.tokens.read_freshness(request.at_least_as_fresh)

        def read(reader: Reader) -> tuple[Person, AccountRequest | None]:
            must_be_fresh(reader, fresh)
            # Before the person: an account that is opened in between is then seen twice, not never.
            account_request = find_account_request(reader, identifier)
            return reader.persons([identifier])[identifier], account_request

        person, account_request = self.store.read(read, deadline=call.deadline)
        return pb.GetPersonResponse(
            person=translate.person_to(person),
            mailboxes=translate.own_mailboxes_to(person),
            shared_contacts=translate.shared_contacts_to(person),
            account_request=translate.account_request_to(account_request),
        )

    def RegisterPerson(self, request: pb.RegisterPersonRequest, call: Call) -> pb.RegisterPersonResponse:
        language = translate.language_from("language", request.language)
        given = {ContactKind.EMAIL: request.email, ContactKind.MOBILE: request.mobile}
        values = {
            kind: translate.named_field(kind, _PARSE[kind], text) for kind, text in given.items() if text
        }
        answer = self._write(request, call, lambda person, now: person.register(now, values, language))
        return pb.RegisterPersonResponse(answer=answer)

    def UpdateContact(self, request: pb.UpdateContactRequest, call: Call) -> pb.UpdateContactResponse:
        paths = request.update_mask.paths
        if not paths or not set(paths) <= set(ContactKind):
            raise InvalidValue(Reason.INVALID_FIELD, "update_mask", '"email", "mobile", or both')
        given = {ContactKind(path): getattr(request, path) for path in paths}
        values = {
            kind: translate.named_field(kind, _PARSE[kind], text) if text else None
            for kind, text in given.items()
        }
        answer = self._write(request, call, lambda person, now: person.update_contact(now, values))
        return pb.UpdateContactResponse(answer=answer)

    def ConfirmContact(self, request: pb.ConfirmContactRequest, call: Call) -> pb.ConfirmContactResponse:
        return pb.ConfirmContactResponse(answer=self._write(request, call, Person.confirm_contact))

    def SendVerificationCode(
        self, request: pb.SendVerificationCodeRequest, call: Call
    ) -> pb.SendVerificationCodeResponse:
        kind = translate.contact_kind_from("contact_kind", request.contact_kind)

        def send(transaction: Transaction, person: Person, _: datetime) -> Answer:
            person.must_have_contact_point(kind)
            # Not as it is written: else a stranger's address could be asked for in many spellings.
            value = comparable(kind, person.contacts[kind].value)
            send_code(transaction, person, kind, self.store.value_key(value))
            return Answer("SENT")

        answer = self._written(request, call, send)
        return pb.SendVerificationCodeResponse(
            code_lifetime=translate.duration_to(CODE_LIFETIME),
            resend_after=translate.duration_to(RESEND_AFTER),
            duplicate=answer.duplicate,
        )

    def VerifyContact(self, request: pb.VerifyContactRequest, call: Call) -> pb.VerifyContactResponse:
        kind = translate.contact_kind_from("contact_kind", request.contact_kind)
        if not _CODE.fullmatch(request.code):
            raise InvalidValue(Reason.INVALID_FIELD, "code", "six digits")

        def verify(transaction: Transaction, before: Person, now: datetime) -> Answer:
            after = before.validate_contact(now, kind)
            if not try_code(transaction, before, kind, request.code, self.store.one_time_code):
                # Kept as an answer, since a refusal would leave no trace: the try counts.
                return Answer(Reason.CODE_WRONG.name, before.change_number)
            return _changed(transaction, before, after, now)

        answer = self._written(request, call, verify)
        if answer.result == Reason.CODE_WRONG.name:
            raise Refusal(Reason.CODE_WRONG)
        return pb.VerifyContactResponse(answer=self._answer_to(answer))

    def SetLanguage(self, request: pb.SetLanguageRequest, call: Call) -> pb.SetLanguageResponse:
        language = translate.language_from("language", request.language)
        if language is None:
            raise InvalidValue(Reason.INVALID_FIELD, "language", "a language of the contract")
        answer = self._write(request, call, lambda person, now: person.set_language(now, language))
        return pb.SetLanguageResponse(answer=answer)

    def Reserve(self, request: pb.ReserveRequest, call: Call) -> pb.ReserveResponse:
        return pb.ReserveResponse(answer=self._write(request, call, Person.reserve))

    def CancelReservation(
        self, request: pb.CancelReservationRequest, call: Call
    ) -> pb.CancelReservationResponse:
        return pb.CancelReservationResponse(answer=self._write(request, call, Person.cancel_reservation))

    def ChooseMailbox(self, request: pb.ChooseMailboxRequest, call: Call) -> pb.ChooseMailboxResponse:
        operator = translate.operator_from(
            "operator_organisation_number", request.operator_organisation_number, self.store.operators
        )

        def choose(transaction: Transaction, before: Person, now: datetime) -> Answer:
            opens_account = request.open_account and operator in self.store.account_openers
            if opens_account and before.mailbox_at(operator) is None:
                before.may_request_account()
                request_account(transaction, before, operator)
                return Answer("ACCOUNT_REQUESTED", before.change_number)
            answer = _changed(transaction, before, before.choose_mailbox(operator), now)
            if answer.result == "UNCHANGED":
                # Another operator may have been asked since.
                withdraw_account_request(transaction, before.identifier)
            return answer

        return pb.ChooseMailboxResponse(answer=self._write_so(request, call, choose))

    def DeletePerson(self, request: pb.DeletePersonRequest, call: Call) -> pb.DeletePersonResponse:
        return pb.DeletePersonResponse(
            answer=self._write(request, call, lambda person, _: person.delete(DeletionReason.OWN_CHOICE))
        )

    def ListHistory(self, request: pb.ListHistoryRequest, call: Call) -> pb.ListHistoryResponse:
        identifier = self._own_identifier(request.identifier, call)
        page_size = translate.count_from(
            "page_size", request.page_size, most=MAX_BATCH, default=_DEFAULT_PAGE
        )
        before = self.tokens.read_page(request.page_token)
        entries = self.store.read(
            lambda reader: list_history(reader, identifier, before=before, limit=page_size),
            deadline=call.deadline,
        )
        return pb.ListHistoryResponse(
            entries=[translate.history_entry_to(entry) for entry in entries],
            next_page_token=self.tokens.page(entries[-1].change_number) if len(entries) == page_size else "",
        )

    def _write(
        self, request: "_Conditional", call: Call, verb: Callable[[Person, datetime], Person]
    ) -> person_pb2.WriteAnswer:
        return self._write_so(
            request,
            call,
            lambda transaction, before, now: _changed(transaction, before, verb(before, now), now),
        )

    def _write_so(
        self, request: "_Conditional", call: Call, act: Callable[[Transaction, Person, datetime], Answer]
    ) -> person_pb2.WriteAnswer:
        def act_if_unchanged(transaction: Transaction, before: Person, now: datetime) -> Answer:
            if request.HasField("expected_change_number") and (
                request.expected_change_number != before.change_number
            ):
                raise Refusal(Reason.CHANGED_SINCE)
            return act(transaction, before, now)

        return self._answer_to(self._written(request, call, act_if_unchanged))

    def _written(
        self, request: "_Write", call: Call, act: Callable[[Transaction, Person, datetime], Answer]
    ) -> Answer:
        identifier = self._own_identifier(request.identifier, call)
        now = self.now()
        return self.store.write(
            call.caller,
            lambda transaction: act(transaction, transaction.person(identifier), now),
            deadline=call.deadline,
            request=translate.write_request(request, request.request_id),
        )

    def _answer_to(self, answer: Answer) -> person_pb2.WriteAnswer:
        return translate.write_answer_to(answer, self.tokens.freshness(answer.change_number))

    def _own_identifier(self, text: str, call: Call) -> PersonIdentifier:
        identifier = translate.named_field("identifier", self.parse_identifier, text)
        if call.caller.kind is CallerKind.CITIZEN and identifier != call.caller.subject:
            raise Refusal(Reason.OTHER_PERSON)
        return identifier


def _changed(transaction: Transaction, before: Person, after: Person, now: datetime) -> Answer:
    [number] = transaction.record([Change(before, after)], now)
    return Answer("UNCHANGED" if number == before.change_number else "CHANGED", number)
