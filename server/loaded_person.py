"""Persons as they are loaded into the register: some by LoadPersons, a country's worth by an import.

An import has millions, so each goes from the request to what the database takes without becoming
a domain Person between, times as numbers all the way; a property test holds it equal to that way.
"""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp
from krr.v1 import admin_service_pb2, person_pb2

from server import translate
from server.domain.contact import ContactKind, parse_email, parse_mobile
from server.domain.errors import InvalidValue, Reason
from server.domain.identifiers import OrganisationNumber, PersonIdentifier, parse_mailbox_address
from server.domain.look_up import LetterRoute, standing
from server.domain.person import Status
from server.domain.rules import STALE_AFTER_MONTHS, microseconds_later
from server.encoded_person import encode_message, microseconds
from server.store.person_staging import (
    NO_CONTACT,
    TO_2000,
    StagedContact,
    StagedMailbox,
    StagedPerson,
    StagedTime,
)
from server.store.rows import Digest

_RESERVED = {person_pb2.RESERVATION_RESERVED: True, person_pb2.RESERVATION_NOT_RESERVED: False}
_NANOS = 10**9


class _Fields(NamedTuple):
    # Made once, for all that are read.
    kind: ContactKind
    value: str
    updated: str
    confirmed: str
    validated: str


def _fields(kind: ContactKind) -> _Fields:
    names = ("value", "updated_time", "confirmed_time", "validated_time")
    return _Fields(kind, *(f"{kind}.{name}" for name in names))


_EMAIL = _fields(ContactKind.EMAIL)
_MOBILE = _fields(ContactKind.MOBILE)


class LoadedPersons:
    """Reads persons to be loaded.

    operators: the mailbox operators that the register knows.
    """

    def __init__(
        self,
        parse_identifier: Callable[[str], PersonIdentifier],
        operators: frozenset[OrganisationNumber],
        digest: Digest,
    ) -> None:
        self._parse_identifier = parse_identifier
        self._operators = operators
        self._digest = digest

    def read(self, row: int, given: admin_service_pb2.PersonToLoad, now: StagedTime) -> StagedPerson:
        """The person, as one that is new.

        row: the person's place among those that are loaded.
        given: without fields that this contract does not know; what is stored would keep them.
        now: no time may be later.

        Raises InvalidValue, with the field's path in the person, which is empty for the whole.
        """
        identifier = translate.named_field("identifier", self._parse_identifier, given.identifier)
        status = given.status
        if status == person_pb2.PERSON_STATUS_DELETED:
            return _deleted(row, identifier, given)
        if status != person_pb2.PERSON_STATUS_ACTIVE:
            raise InvalidValue(Reason.INVALID_FIELD, "status", "ACTIVE or DELETED")
        reservation = given.reservation
        reserved = _RESERVED.get(reservation)
        if reserved is None:
            raise InvalidValue(Reason.INVALID_FIELD, "reservation", "RESERVED or NOT_RESERVED")
        language = translate.language_from("language", given.language)
        mailboxes = self._mailboxes(given)
        message = person_pb2.Person(
            identifier=identifier, status=status, reservation=reservation, language=given.language
        )
        reservation_time = language_updated = None
        if given.HasField("reservation_time"):
            time = message.reservation_time
            time.CopyFrom(given.reservation_time)
            reservation_time = _past("reservation_time", time, now)
        if given.HasField("language_updated_time"):
            time = message.language_updated_time
            time.CopyFrom(given.language_updated_time)
            language_updated = _past("language_updated_time", time, now)
        email = mobile = NO_CONTACT
        email_until = mobile_until = 0
        if given.HasField("email"):
            message.email.CopyFrom(given.email)
            email, email_until = self._contact(_EMAIL, message.email, parse_email, now)
        if given.HasField("mobile"):
            message.mobile.CopyFrom(given.mobile)
            mobile, mobile_until = self._contact(_MOBILE, message.mobile, parse_mobile, now)
        has_mailbox = False
        for box in mailboxes:
            if box.chosen:
                has_mailbox = True
                if not reserved:
                    message.mailbox.operator_organisation_number = box.operator
                    message.mailbox.address = box.address
                    message.mailbox.certificate = box.certificate or b""
        return StagedPerson(
            row,
            identifier,
            "ACTIVE",
            reserved,
            reservation_time,
            language and language.value,
            language_updated,
            *email,
            *mobile,
            encode_message(
                message,
                email_until,
                mobile_until,
                standing(Status.ACTIVE, reserved=reserved, has_mailbox=has_mailbox),
            ),
            mailboxes,
        )

    def _mailboxes(self, given: admin_service_pb2.PersonToLoad) -> tuple[StagedMailbox, ...]:
        chosen = given.chosen_operator_organisation_number
        mailboxes: dict[OrganisationNumber, StagedMailbox] = {}
        for box in given.mailboxes:
            try:
                operator = translate.operator_from(
                    "operator_organisation_number", box.operator_organisation_number, self._operators
                )
                if operator in mailboxes:
                    raise InvalidValue(Reason.INVALID_FIELD, description="one mailbox per operator")
                address = translate.named_field("address", parse_mailbox_address, box.address)
                certificate = translate.certificate_from("certificate", box.certificate)
            except InvalidValue as invalid:
                # One for each that was read without fault: an operator has but one.
                path = f"mailboxes[{len(mailboxes)}]"
                invalid.field = f"{path}.{invalid.field}" if invalid.field else path
                raise
            mailboxes[operator] = StagedMailbox(operator, address, certificate, operator == chosen)
        if chosen and chosen not in mailboxes:
            raise InvalidValue(
                Reason.INVALID_FIELD,
                "chosen_operator_organisation_number",
                "the operator of one of the mailboxes",
            )
        return tuple(mailboxes.values())

    def _contact(
        self, fields: _Fields, point: person_pb2.ContactPoint, parse: Callable[[str], str], now: StagedTime
    ) -> tuple[StagedContact, int]:
        """The contact point, and until when it may be used. Brings point to what is stored."""
        given_value = point.value
        value = translate.named_field(fields.value, parse, given_value)
        if value != given_value:
            point.value = value
        # Not asked whether it is there: it must be, and a time that is not is not allowed.
        last = updated = _past(fields.updated, point.updated_time, now)
        confirmed = validated = None
        if point.HasField("confirmed_time"):
            confirmed = _past(fields.confirmed, point.confirmed_time, now)
            if confirmed > last:
                last = confirmed
        if point.HasField("validated_time"):
            validated = _past(fields.validated, point.validated_time, now)
            if validated > last:
                last = validated
        # Counted and computed by the register, whatever was given.
        point.shared = False
        until = microseconds_later(last + TO_2000, STALE_AFTER_MONTHS)
        usable_until = point.usable_until_time
        usable_until.seconds = until // 1_000_000
        usable_until.nanos = until % 1_000_000 * 1000
        return (value, updated, confirmed, validated, self._digest(fields.kind, value)), until


def staged_time(time: datetime) -> StagedTime:
    """The time as it is staged."""
    return StagedTime(microseconds(time) - TO_2000)


def _deleted(row: int, identifier: PersonIdentifier, given: admin_service_pb2.PersonToLoad) -> StagedPerson:
    bare = admin_service_pb2.PersonToLoad(identifier=given.identifier, status=given.status)
    if given != bare:
        raise InvalidValue(Reason.INVALID_FIELD, description="a deleted person has only an identifier")
    message = person_pb2.Person(identifier=identifier, status=given.status)
    encoded = encode_message(message, 0, 0, LetterRoute.DELETED)
    return StagedPerson(
        row, identifier, "DELETED", False, None, None, None, *NO_CONTACT, *NO_CONTACT, encoded, ()
    )


def _past(field: str, timestamp: Timestamp, now: StagedTime) -> StagedTime:
    """A time that must have been; brings timestamp to microseconds."""
    nanos = timestamp.nanos
    if 0 <= nanos < _NANOS:
        time = timestamp.seconds * 1_000_000 + nanos // 1000 - TO_2000
        if -TO_2000 < time <= now:
            if nanos % 1000:
                timestamp.nanos = nanos // 1000 * 1000
            return StagedTime(time)
    raise InvalidValue(Reason.INVALID_FIELD, field, "a time between 1970 and now")
