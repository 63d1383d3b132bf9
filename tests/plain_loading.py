"""Persons to be loaded, read and made ready plainly: by way of the domain's Person and its datetimes."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from krr.v1 import admin_service_pb2, person_pb2
from sqlalchemy import func, update

from server import translate
from server.domain.caller import Caller, CallerKind
from server.domain.contact import ContactKind, ContactPoint, parse_email, parse_mobile
from server.domain.errors import InvalidValue, Reason
from server.domain.identifiers import OrganisationNumber, PersonIdentifier, parse_mailbox_address
from server.domain.person import Mailbox, Person, Status
from server.encoded_person import encode_person
from server.store import tables
from server.store.person_staging import (
    NO_CONTACT,
    StagedContact,
    StagedMailbox,
    StagedPerson,
    StagedTime,
    load_new,
)
from server.store.rows import Digest, person_values
from server.store.store import Store
from server.store.transaction import Transaction

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_TAKEN = ("email_shared", "mobile_shared", "deletion_reason")
_RESERVED = {person_pb2.RESERVATION_RESERVED: True, person_pb2.RESERVATION_NOT_RESERVED: False}


def person_from(
    given: admin_service_pb2.PersonToLoad,
    now: datetime,
    parse_identifier: Callable[[str], PersonIdentifier],
    operators: frozenset[OrganisationNumber],
) -> Person:
    """Read a person to be loaded. Raises InvalidValue, with the field's path in the person."""
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
        updated=past_time_from(f"{field}.updated_time", given.updated_time, now),
        confirmed=_optional_time(f"{field}.confirmed_time", given, "confirmed_time", now),
        validated=_optional_time(f"{field}.validated_time", given, "validated_time", now),
    )


def _optional_time(path: str, message: Message, name: str, now: datetime) -> datetime | None:
    return past_time_from(path, getattr(message, name), now) if message.HasField(name) else None


def past_time_from(field: str, timestamp: Timestamp, now: datetime) -> datetime:
    """Read a time that must have been."""
    with suppress(ValueError, OverflowError):
        time = timestamp.ToDatetime(UTC)
        if _EPOCH < time <= now:
            return time
    raise InvalidValue(Reason.INVALID_FIELD, field, "a time between 1970 and now")


def staged(row: int, person: Person, digest: Digest) -> StagedPerson:
    """Make a person ready to be copied."""
    return StagedPerson(
        row,
        person.identifier,
        person.status.value,
        person.reserved,
        _copied(person.reservation_time),
        person.language.value if person.language else None,
        _copied(person.language_updated),
        *_staged_contact(person, ContactKind.EMAIL, digest),
        *_staged_contact(person, ContactKind.MOBILE, digest),
        encode_person(person),
        tuple(
            StagedMailbox(box.operator, box.address, box.certificate, box.operator == person.chosen)
            for box in person.mailboxes
        ),
    )


def load_persons(store: Store, persons: Sequence[Person], *, deadline: float) -> int:
    """Enter the persons as LoadPersons does, and with what it does not take: flags, and reasons of
    deletions. How many were entered.
    """
    made_ready = [staged(row, person, store.digest) for row, person in enumerate(persons)]

    def do(transaction: Transaction) -> int:
        before = transaction.persons([person.identifier for person in persons])
        entered = load_new(transaction, made_ready)
        for person in persons:
            if before[person.identifier].change_number:
                continue
            values = person_values(person, store.digest)
            transaction.connection.execute(
                update(tables.person)
                .where(tables.person.c.identifier == person.identifier)
                .values(
                    **{name: values[name] for name in _NOT_TAKEN},
                    encoded=func.int8send(tables.person.c.change_number).op("||")(encode_person(person)[8:]),
                )
            )
        return entered

    return store.write(Caller(CallerKind.ADMINISTRATOR, "tests"), do, deadline=deadline)


def _staged_contact(person: Person, kind: ContactKind, digest: Digest) -> StagedContact:
    point = person.contacts.get(kind)
    if point is None:
        return NO_CONTACT
    return (
        point.value,
        _copied(point.updated),
        _copied(point.confirmed),
        _copied(point.validated),
        digest(kind, point.value),
    )


def _copied(time: datetime | None) -> StagedTime | None:
    if time is None:
        return None
    return StagedTime((time - datetime(2000, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1))
