"""Persons as they are loaded into the register: some by LoadPersons, a country's worth by an import.

An import has millions, so that what is not asked for is not done: the path in the request is put
before a field's name where one is refused, not for each that is read.
"""

from collections.abc import Callable
from datetime import datetime

from google.protobuf.message import Message
from krr.v1 import admin_service_pb2, person_pb2

from server import translate
from server.domain.contact import ContactKind, ContactPoint, parse_email, parse_mobile
from server.domain.errors import InvalidValue, Reason
from server.domain.identifiers import OrganisationNumber, PersonIdentifier, parse_mailbox_address
from server.domain.person import Mailbox, Person, Status

_RESERVED = {person_pb2.RESERVATION_RESERVED: True, person_pb2.RESERVATION_NOT_RESERVED: False}


def person_from(
    path: str,
    given: admin_service_pb2.PersonToLoad,
    now: datetime,
    parse_identifier: Callable[[str], PersonIdentifier],
    operators: frozenset[OrganisationNumber],
) -> Person:
    """Read a person to be loaded.

    path: where it stands in the request, such as persons[0].
    operators: the mailbox operators that the register knows.

    Raises InvalidValue, with the field's path.
    """
    try:
        return _person(given, now, parse_identifier, operators)
    except InvalidValue as invalid:
        invalid.field = f"{path}.{invalid.field}" if invalid.field else path
        raise


def _person(
    given: admin_service_pb2.PersonToLoad,
    now: datetime,
    parse_identifier: Callable[[str], PersonIdentifier],
    operators: frozenset[OrganisationNumber],
) -> Person:
    identifier = translate.named_field("identifier", parse_identifier, given.identifier)
    if given.status == person_pb2.PERSON_STATUS_DELETED:
        bare = admin_service_pb2.PersonToLoad(identifier=given.identifier, status=given.status)
        if given != bare:
            raise InvalidValue(Reason.INVALID_FIELD, description="a deleted person has only an identifier")
        return Person(identifier=identifier, status=Status.DELETED)
    if given.status != person_pb2.PERSON_STATUS_ACTIVE:
        raise InvalidValue(Reason.INVALID_FIELD, "status", "ACTIVE or DELETED")
    reserved = _RESERVED.get(given.reservation)
    if reserved is None:
        raise InvalidValue(Reason.INVALID_FIELD, "reservation", "RESERVED or NOT_RESERVED")
    language = translate.language_from("language", given.language)
    mailboxes = _mailboxes(given, operators)
    chosen = OrganisationNumber(given.chosen_operator_organisation_number) or None
    if chosen and chosen not in mailboxes:
        raise InvalidValue(
            Reason.INVALID_FIELD,
            "chosen_operator_organisation_number",
            "the operator of one of the mailboxes",
        )
    return Person(
        identifier=identifier,
        status=Status.ACTIVE,
        reserved=reserved,
        reservation_time=_optional_time("reservation_time", given, "reservation_time", now),
        language=language,
        language_updated=_optional_time("language_updated_time", given, "language_updated_time", now),
        contacts=_contacts(given, now),
        mailboxes=tuple([mailboxes[operator] for operator in sorted(mailboxes)]),
        chosen=chosen,
    )


def _mailboxes(
    given: admin_service_pb2.PersonToLoad, operators: frozenset[OrganisationNumber]
) -> dict[OrganisationNumber, Mailbox]:
    mailboxes: dict[OrganisationNumber, Mailbox] = {}
    for i, box in enumerate(given.mailboxes):
        field = f"mailboxes[{i}]"
        operator = translate.operator_from(
            f"{field}.operator_organisation_number", box.operator_organisation_number, operators
        )
        if operator in mailboxes:
            raise InvalidValue(Reason.INVALID_FIELD, field, "one mailbox per operator")
        mailboxes[operator] = Mailbox(
            operator=operator,
            address=translate.named_field(f"{field}.address", parse_mailbox_address, box.address),
            certificate=translate.certificate_from(f"{field}.certificate", box.certificate),
        )
    return mailboxes


def _contacts(given: admin_service_pb2.PersonToLoad, now: datetime) -> dict[ContactKind, ContactPoint]:
    contacts = {}
    if given.HasField("email"):
        contacts[ContactKind.EMAIL] = _contact_point("email", given.email, parse_email, now)
    if given.HasField("mobile"):
        contacts[ContactKind.MOBILE] = _contact_point("mobile", given.mobile, parse_mobile, now)
    return contacts


def _contact_point(
    field: str, given: person_pb2.ContactPoint, parse: Callable[[str], str], now: datetime
) -> ContactPoint:
    return ContactPoint(
        value=translate.named_field(f"{field}.value", parse, given.value),
        updated=translate.past_time_from(f"{field}.updated_time", given.updated_time, now),
        confirmed=_optional_time(f"{field}.confirmed_time", given, "confirmed_time", now),
        validated=_optional_time(f"{field}.validated_time", given, "validated_time", now),
    )


def _optional_time(path: str, message: Message, name: str, now: datetime) -> datetime | None:
    return translate.past_time_from(path, getattr(message, name), now) if message.HasField(name) else None
