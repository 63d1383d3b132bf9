"""Proto to domain and back: the only place, with the services, that knows both."""

import hashlib
import re
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from cryptography import x509
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from krr.v1 import (
    citizen_service_pb2,
    error_reason_pb2,
    mailbox_operator_service_pb2,
    person_pb2,
    register_service_pb2,
)

from server.domain.contact import ContactKind, ContactPoint
from server.domain.errors import InvalidValue, Reason
from server.domain.identifiers import OrganisationNumber, parse_organisation_number
from server.domain.look_up import LetterRoute, LookUp, Purpose
from server.domain.person import DeletionReason, Language, Mailbox, Person, Status
from server.domain.rules import MAX_BATCH
from server.store.account_requests import AccountRequest
from server.store.history import HistoryEntry
from server.store.transaction import Answer, WriteRequest

Value = TypeVar("Value")

MAX_CERTIFICATE_BYTES = 10_000
_LONGEST_WAIT = timedelta(seconds=30)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A Timestamp's last second, in the year 9999.
_LAST_SECOND = 253_402_300_799
_NANOS = 10**9

_CONTACT_KINDS = {
    ContactKind.EMAIL: person_pb2.CONTACT_KIND_EMAIL,
    ContactKind.MOBILE: person_pb2.CONTACT_KIND_MOBILE,
}
_LANGUAGES: Mapping[int, Language | None] = {
    person_pb2.LANGUAGE_UNSPECIFIED: None,
    person_pb2.LANGUAGE_NB: Language.NB,
    person_pb2.LANGUAGE_NN: Language.NN,
    person_pb2.LANGUAGE_EN: Language.EN,
    person_pb2.LANGUAGE_SE: Language.SE,
}
_PURPOSES: Mapping[int, Purpose] = {
    register_service_pb2.PURPOSE_NOTICE: Purpose.NOTICE,
    register_service_pb2.PURPOSE_SERVICE_MESSAGE: Purpose.SERVICE_MESSAGE,
}
_LANGUAGE_VALUES = {each: person_pb2.Language.Value(f"LANGUAGE_{each.name}") for each in Language}
_STATUSES = {status: person_pb2.PersonStatus.Value(f"PERSON_STATUS_{status.name}") for status in Status}
_DELETION_REASONS: Mapping[int, DeletionReason] = {
    person_pb2.DeletionReason.Value(f"DELETION_REASON_{reason.name}"): reason for reason in DeletionReason
}
_ERROR_CODE = re.compile(r"(?!.*[0-9]{6})[A-Z][A-Z0-9_]{0,63}")


# From the wire


def named_field(field: str, parse: Callable[[str], Value], text: str) -> Value:
    """Parse a field; a refusal names the field."""
    try:
        return parse(text)
    except InvalidValue as invalid:
        invalid.field = field
        raise


def uuid_from(field: str, text: str, reason: Reason = Reason.INVALID_FIELD) -> uuid.UUID:
    """Read a UUID in its usual form of 36 characters. Raises InvalidValue."""
    if re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text):
        return uuid.UUID(text)
    raise InvalidValue(reason, field, "a UUID, such as 123e4567-e89b-42d3-a456-426614174000")


def write_request(request: Message, request_id: str, field: str = "request_id") -> WriteRequest:
    """What makes the request known when it is repeated. Raises InvalidValue: INVALID_REQUEST_ID."""
    body = request.DESCRIPTOR.full_name.encode() + b"\0" + request.SerializeToString(deterministic=True)
    return WriteRequest(
        uuid_from(field, request_id, Reason.INVALID_REQUEST_ID), hashlib.sha256(body).digest()
    )


def operator_from(field: str, text: str, known: frozenset[OrganisationNumber]) -> OrganisationNumber:
    """Read a mailbox operator's organisation number.

    Raises InvalidValue: INVALID_ORGANISATION_NUMBER or UNKNOWN_OPERATOR.
    """
    operator = named_field(field, parse_organisation_number, text)
    if operator not in known:
        raise InvalidValue(Reason.UNKNOWN_OPERATOR, field)
    return operator


def certificate_from(field: str, der: bytes) -> bytes | None:
    """Read a person's certificate; None for none. Raises InvalidValue: INVALID_CERTIFICATE."""
    if not der:
        return None
    if len(der) <= MAX_CERTIFICATE_BYTES:
        with suppress(ValueError, x509.InvalidVersion):
            x509.load_der_x509_certificate(der)
            return der
    raise InvalidValue(Reason.INVALID_CERTIFICATE, field)


def language_from(field: str, value: int) -> Language | None:
    """Read a language; None for an unspecified one. Raises InvalidValue: INVALID_FIELD."""
    if value not in _LANGUAGES:
        raise InvalidValue(Reason.INVALID_FIELD, field, "a language of the contract")
    return _LANGUAGES[value]


def contact_kind_from(field: str, value: int) -> ContactKind:
    """Read a kind of contact point. Raises InvalidValue: INVALID_FIELD."""
    for kind, number in _CONTACT_KINDS.items():
        if number == value:
            return kind
    raise InvalidValue(Reason.INVALID_FIELD, field, "a kind of the contract")


def deletion_reason_from(field: str, value: int) -> DeletionReason:
    """Read why a person is deleted. Raises InvalidValue: INVALID_FIELD."""
    if value not in _DELETION_REASONS:
        raise InvalidValue(Reason.INVALID_FIELD, field, "a reason of the contract")
    return _DELETION_REASONS[value]


def purpose_from(value: int) -> Purpose:
    """Read the purpose of a look-up. Raises InvalidValue: INVALID_FIELD."""
    if value not in _PURPOSES:
        raise InvalidValue(
            Reason.INVALID_FIELD, "purpose", " or ".join(f"PURPOSE_{each.name}" for each in Purpose)
        )
    return _PURPOSES[value]


def duration_from(field: str, duration: Duration, *, least: timedelta, most: timedelta) -> timedelta:
    """Read a span of time within limits. Raises InvalidValue: INVALID_FIELD."""
    with suppress(ValueError, OverflowError):
        span = duration.ToTimedelta()
        if least <= span <= most:
            return span
    raise InvalidValue(Reason.INVALID_FIELD, field, f"from {least} to {most}")


def count_from(field: str, value: int, *, most: int, default: int | None = None) -> int:
    """Read how many are wanted; 0 stands for the default. Raises InvalidValue: INVALID_FIELD."""
    if value == 0 and default is not None:
        return default
    if not 1 <= value <= most:
        raise InvalidValue(Reason.INVALID_FIELD, field, f"1 to {most}")
    return value


def adapter_from(text: str) -> str:
    """Read the name of an adapter; it may be empty. Raises InvalidValue: INVALID_FIELD."""
    if not re.fullmatch(r"[a-z0-9-]{0,64}", text):
        raise InvalidValue(Reason.INVALID_FIELD, "adapter", "the name of an adapter, such as digipost")
    return text


def page_size_from(value: int) -> int:
    """Read the size of a page of a feed. Raises InvalidValue: INVALID_FIELD."""
    return count_from("page_size", value, most=MAX_BATCH, default=MAX_BATCH)


def wait_from(
    request: register_service_pb2.ListChangesRequest | mailbox_operator_service_pb2.ListMailboxesRequest,
) -> float:
    """Read how many seconds to wait for a change. Raises InvalidValue: INVALID_FIELD."""
    return duration_from("wait", request.wait, least=timedelta(), most=_LONGEST_WAIT).total_seconds()


def batch_size_in(field: str, count: int, most: int) -> None:
    """Pass if the number of items is allowed. Raises InvalidValue: BATCH_SIZE."""
    if not 1 <= count <= most:
        raise InvalidValue(Reason.BATCH_SIZE, field, f"1 to {most} items")


def error_code_from(field: str, text: str) -> str:
    """Read a code that cannot hold anything personal. Raises InvalidValue: INVALID_FIELD."""
    if not _ERROR_CODE.fullmatch(text):
        raise InvalidValue(Reason.INVALID_FIELD, field, "A-Z, 0-9 and _, at most 64, no six digits in a row")
    return text


# To the wire


def person_to(person: Person) -> person_pb2.Person:
    """A person as anyone but the person sees it: the mailbox withheld while reserved."""
    message = person_pb2.Person(
        identifier=person.identifier,
        status=_STATUSES[person.status],
        change_number=person.change_number,
    )
    if person.deletion_reason:
        message.deletion_reason = person_pb2.DeletionReason.Value(
            f"DELETION_REASON_{person.deletion_reason.name}"
        )
    if person.status is not Status.ACTIVE:
        return message
    message.reservation = (
        person_pb2.RESERVATION_RESERVED if person.reserved else person_pb2.RESERVATION_NOT_RESERVED
    )
    _set_time(message.reservation_time, person.reservation_time)
    if person.language:
        message.language = _LANGUAGE_VALUES[person.language]
    _set_time(message.language_updated_time, person.language_updated)
    for kind, point in person.contacts.items():
        _fill_contact_point(message.email if kind is ContactKind.EMAIL else message.mobile, point)
    mailbox = person.public_mailbox()
    if mailbox:
        message.mailbox.CopyFrom(mailbox_to(mailbox))
    return message


def mailbox_to(mailbox: Mailbox) -> person_pb2.Mailbox:
    """A mailbox."""
    return person_pb2.Mailbox(
        operator_organisation_number=mailbox.operator,
        address=mailbox.address,
        certificate=mailbox.certificate or b"",
    )


def own_mailboxes_to(person: Person) -> list[citizen_service_pb2.OwnMailbox]:
    """The mailboxes as the person sees them: all, also while reserved."""
    return [
        citizen_service_pb2.OwnMailbox(
            mailbox=mailbox_to(mailbox),
            chosen=mailbox.operator == person.chosen,
            operator_state=citizen_service_pb2.OperatorState.Value(
                f"OPERATOR_STATE_{mailbox.operator_state.name}"
            ),
        )
        for mailbox in person.mailboxes
    ]


def account_request_to(request: AccountRequest | None) -> citizen_service_pb2.AccountRequest | None:
    """An account that an operator is asked to open; None, an absent field, for none."""
    if request is None:
        return None
    return citizen_service_pb2.AccountRequest(
        operator_organisation_number=request.operator,
        state=citizen_service_pb2.OperatorState.Value(f"OPERATOR_STATE_{request.state.name}"),
    )


def shared_contacts_to(person: Person) -> "list[person_pb2.ContactKind.ValueType]":
    """The kinds of contact point that other persons have too."""
    return [_CONTACT_KINDS[kind] for kind, point in person.contacts.items() if point.shared]


def contact_kind_to(kind: ContactKind) -> "person_pb2.ContactKind.ValueType":
    """A kind of contact point."""
    return _CONTACT_KINDS[kind]


def history_entry_to(entry: HistoryEntry) -> citizen_service_pb2.HistoryEntry:
    """A change as the person sees it."""
    return citizen_service_pb2.HistoryEntry(
        change_number=entry.change_number,
        changed_time=time_to(entry.changed_time),
        changed_by=citizen_service_pb2.ChangedBy.Value(f"CHANGED_BY_{entry.changed_by.name}"),
        fields=entry.fields,
    )


def meaning_to(answer: LookUp) -> register_service_pb2.LookUpEntry:
    """What the entry of a look-up says about the person, without the person."""
    route = answer.letter_route
    return register_service_pb2.LookUpEntry(
        notifiable=(
            register_service_pb2.NOTIFIABLE_YES if answer.notifiable else register_service_pb2.NOTIFIABLE_NO
        ),
        letter_route=(
            register_service_pb2.LETTER_ROUTE_MAILBOX
            if route is LetterRoute.MAILBOX_CHOSEN
            else register_service_pb2.LETTER_ROUTE_PAPER
        ),
        letter_route_reason=register_service_pb2.LetterRouteReason.Value(f"LETTER_ROUTE_REASON_{route.name}"),
        expired_contacts=[_CONTACT_KINDS[kind] for kind in answer.expired],
    )


def refused_entry_to(requested_identifier: str, reason: Reason) -> register_service_pb2.LookUpEntry:
    """The entry of an identifier that could not be looked up."""
    return register_service_pb2.LookUpEntry(
        requested_identifier=requested_identifier,
        refusal=error_reason_pb2.ErrorReason.Value(f"ERROR_REASON_{reason.name}"),
    )


def write_answer_to(answer: Answer, freshness_token: str) -> person_pb2.WriteAnswer:
    """What a write by a citizen or an administrator did."""
    return person_pb2.WriteAnswer(
        result=person_pb2.WriteResult.Value(f"WRITE_RESULT_{answer.result}"),
        change_number=answer.change_number,
        freshness_token=freshness_token,
        duplicate=answer.duplicate,
    )


def language_to(language: Language) -> "person_pb2.Language.ValueType":
    """A language."""
    return _LANGUAGE_VALUES[language]


def time_to(time: datetime | None) -> Timestamp | None:
    """A time; None, an absent field, for none."""
    if time is None:
        return None
    timestamp = Timestamp()
    _set_time(timestamp, time)
    return timestamp


def duration_to(span: timedelta) -> Duration:
    """A span of time."""
    duration = Duration()
    duration.FromTimedelta(span)
    return duration


def _fill_contact_point(message: person_pb2.ContactPoint, point: ContactPoint) -> None:
    message.value = point.value
    _set_time(message.updated_time, point.updated)
    _set_time(message.confirmed_time, point.confirmed)
    _set_time(message.validated_time, point.validated)
    _set_time(message.usable_until_time, point.usable_until)
    message.shared = point.shared


def _set_time(field: Timestamp, time: datetime | None) -> None:
    if time is not None:
        # As FromDatetime does, which takes longer; an import has millions.
        since = time - _EPOCH
        field.seconds = 86_400 * since.days + since.seconds
        if since.microseconds:
            field.nanos = 1000 * since.microseconds
