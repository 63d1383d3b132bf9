"""How a person to be loaded is read: every field as it was given, or refused by its path."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st
from krr.v1 import admin_service_pb2 as pb
from krr.v1 import person_pb2

from server.domain.contact import ContactKind, ContactPoint
from server.domain.errors import InvalidValue, Reason
from server.domain.identifiers import (
    MailboxAddress,
    OrganisationNumber,
    PersonIdentifier,
    parse_person_identifier,
)
from server.domain.person import Language, Mailbox, Person, Status
from server.loaded_person import LoadedPersons, staged_time
from server.store.person_staging import StagedPerson
from server.store.shared_contact import digest_with
from server.translate import time_to
from tests.people import DIGIPOST, EBOKS, KARI, OLA, PUBLIC_BODY
from tests.plain_loading import person_from, staged

NOW = datetime(2026, 11, 22, 12, 30, 15, 123456, tzinfo=UTC)
OPERATORS = frozenset(map(OrganisationNumber, (DIGIPOST, EBOKS)))
EARLIER = [NOW - timedelta(days=days, microseconds=days) for days in range(8)]
DIGEST = digest_with(b"key")


def identifier_from(text: str) -> PersonIdentifier:
    return parse_person_identifier(text, accept_synthetic=True, today=date(2026, 11, 22))


def read(given_person: pb.PersonToLoad) -> StagedPerson:
    return LoadedPersons(identifier_from, OPERATORS, DIGEST).read(7, given_person, staged_time(NOW))


def everything() -> pb.PersonToLoad:
    """Each field set, and no two times the same."""
    return pb.PersonToLoad(
        identifier=OLA,
        status=person_pb2.PERSON_STATUS_ACTIVE,
        reservation=person_pb2.RESERVATION_RESERVED,
        reservation_time=time_to(EARLIER[0]),
        language=person_pb2.LANGUAGE_SE,
        language_updated_time=time_to(EARLIER[1]),
        email=person_pb2.ContactPoint(
            value="Ola@EXAMPLE.com",
            updated_time=time_to(EARLIER[2]),
            confirmed_time=time_to(EARLIER[3]),
            validated_time=time_to(EARLIER[4]),
            usable_until_time=Timestamp(seconds=-1),
            shared=True,
        ),
        mobile=person_pb2.ContactPoint(
            value="912 34 567",
            updated_time=time_to(EARLIER[5]),
            confirmed_time=time_to(EARLIER[6]),
            validated_time=time_to(EARLIER[7]),
        ),
        # Not in their order.
        mailboxes=[
            person_pb2.Mailbox(operator_organisation_number=DIGIPOST, address="ola.nordmann#9YDT"),
            person_pb2.Mailbox(operator_organisation_number=EBOKS, address="12345678"),
        ],
        chosen_operator_organisation_number=DIGIPOST,
    )


def test_every_field_is_read_as_it_was_given() -> None:
    box = Mailbox(operator=OrganisationNumber(DIGIPOST), address=MailboxAddress("ola.nordmann#9YDT"))
    other_box = Mailbox(operator=OrganisationNumber(EBOKS), address=MailboxAddress("12345678"))
    expected = Person(
        identifier=PersonIdentifier(OLA),
        status=Status.ACTIVE,
        reserved=True,
        reservation_time=EARLIER[0],
        language=Language.SE,
        language_updated=EARLIER[1],
        contacts={
            ContactKind.EMAIL: ContactPoint(
                value="Ola@example.com", updated=EARLIER[2], confirmed=EARLIER[3], validated=EARLIER[4]
            ),
            ContactKind.MOBILE: ContactPoint(
                value="+4791234567", updated=EARLIER[5], confirmed=EARLIER[6], validated=EARLIER[7]
            ),
        },
        mailboxes=(box, other_box),
        chosen=OrganisationNumber(DIGIPOST),
    )
    assert read(everything()) == staged(7, expected, DIGEST)


def test_what_is_not_given_is_not_there() -> None:
    assert read(
        pb.PersonToLoad(
            identifier=OLA,
            status=person_pb2.PERSON_STATUS_ACTIVE,
            reservation=person_pb2.RESERVATION_NOT_RESERVED,
        )
    ) == staged(7, Person(identifier=PersonIdentifier(OLA), status=Status.ACTIVE), DIGEST)


def test_a_deleted_person_is_an_identifier() -> None:
    bare = pb.PersonToLoad(identifier=OLA, status=person_pb2.PERSON_STATUS_DELETED)
    deleted = Person(identifier=PersonIdentifier(OLA), status=Status.DELETED)
    assert read(bare) == staged(7, deleted, DIGEST)


def put_at(path: str, value: Any) -> Callable[[pb.PersonToLoad], None]:
    """Set the field at a dotted path, where a number is a place in a list."""

    def spoil(person: pb.PersonToLoad) -> None:
        holder: Any = person
        *above, last = path.split(".")
        for name in above:
            holder = holder[int(name)] if name.isdigit() else getattr(holder, name)
        if isinstance(value, Timestamp):
            getattr(holder, last).CopyFrom(value)
        else:
            setattr(holder, last, value)

    return spoil


@pytest.mark.parametrize(
    ("path", "value", "field", "reason"),
    [
        ("identifier", "11822648951", "identifier", Reason.INVALID_IDENTIFIER),
        ("identifier", "", "identifier", Reason.INVALID_IDENTIFIER),
        ("status", person_pb2.PERSON_STATUS_UNSPECIFIED, "status", Reason.INVALID_FIELD),
        ("status", person_pb2.PERSON_STATUS_NOT_REGISTERED, "status", Reason.INVALID_FIELD),
        ("status", 99, "status", Reason.INVALID_FIELD),
        ("status", person_pb2.PERSON_STATUS_DELETED, "", Reason.INVALID_FIELD),
        ("reservation", person_pb2.RESERVATION_UNSPECIFIED, "reservation", Reason.INVALID_FIELD),
        ("reservation", 99, "reservation", Reason.INVALID_FIELD),
        ("language", 99, "language", Reason.INVALID_FIELD),
        ("email.value", "ola", "email.value", Reason.INVALID_EMAIL),
        ("email.value", "", "email.value", Reason.INVALID_EMAIL),
        ("mobile.value", "112", "mobile.value", Reason.SHORT_NUMBER),
        (
            "mailboxes.1.operator_organisation_number",
            "1",
            "mailboxes[1].operator_organisation_number",
            Reason.INVALID_ORGANISATION_NUMBER,
        ),
        (
            "mailboxes.1.operator_organisation_number",
            PUBLIC_BODY,
            "mailboxes[1].operator_organisation_number",
            Reason.UNKNOWN_OPERATOR,
        ),
        ("mailboxes.1.operator_organisation_number", DIGIPOST, "mailboxes[1]", Reason.INVALID_FIELD),
        ("mailboxes.0.address", "1234567", "mailboxes[0].address", Reason.INVALID_MAILBOX_ADDRESS),
        ("mailboxes.1.certificate", b"no", "mailboxes[1].certificate", Reason.INVALID_CERTIFICATE),
        (
            "chosen_operator_organisation_number",
            PUBLIC_BODY,
            "chosen_operator_organisation_number",
            Reason.INVALID_FIELD,
        ),
        *(
            (path, time, path, Reason.INVALID_FIELD)
            for path in (
                "reservation_time",
                "language_updated_time",
                *(
                    f"{kind}.{name}"
                    for kind in ContactKind
                    for name in ("updated_time", "confirmed_time", "validated_time")
                ),
            )
            for time in (Timestamp(), time_to(NOW + timedelta(microseconds=1)))
        ),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_by_its_path(
    path: str, value: Any, field: str, reason: Reason
) -> None:
    person = everything()
    put_at(path, value)(person)
    with pytest.raises(InvalidValue) as refused:
        read(person)
    assert refused.value.field == field
    assert refused.value.reason is reason


def test_a_contact_point_must_say_when_it_was_updated() -> None:
    person = everything()
    person.mobile.ClearField("updated_time")
    with pytest.raises(InvalidValue) as refused:
        read(person)
    assert refused.value.field == "mobile.updated_time"


def test_an_operator_cannot_be_chosen_without_mailbox() -> None:
    person = everything()
    del person.mailboxes[0]
    with pytest.raises(InvalidValue) as refused:
        read(person)
    assert refused.value.field == "chosen_operator_organisation_number"


SECONDS = st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 2) | st.integers(0, 2**31)
NANOS = st.integers(-(2**31), 2**31 - 1) | st.integers(-1001, 1001) | st.integers(0, 10**9)


TIMES = st.one_of(
    # Most of them times that are taken, and some by fractions of microseconds.
    st.builds(Timestamp, seconds=st.integers(0, int(NOW.timestamp())), nanos=st.integers(0, 10**9 - 1)),
    st.builds(Timestamp, seconds=st.integers(0, 2**31), nanos=st.just(123456000)),
    st.builds(
        Timestamp,
        seconds=SECONDS | st.integers(-2, 2).map(int(NOW.timestamp()).__add__),
        nanos=NANOS | st.just(123456999),
    ),
)
MAYBE = st.none() | TIMES


def points(values: st.SearchStrategy[str]) -> st.SearchStrategy[person_pb2.ContactPoint | None]:
    return st.none() | st.builds(
        person_pb2.ContactPoint,
        value=values,
        updated_time=TIMES,
        confirmed_time=MAYBE,
        validated_time=MAYBE,
        usable_until_time=MAYBE,
        shared=st.booleans(),
    )


BOXES = st.builds(
    person_pb2.Mailbox,
    operator_organisation_number=st.sampled_from((DIGIPOST, EBOKS)),
    address=st.text(min_size=7, max_size=9) | st.just("ola.nordmann#9YDT"),
)
GIVEN = st.builds(
    pb.PersonToLoad,
    identifier=st.sampled_from((OLA, KARI)),
    status=st.sampled_from((person_pb2.PERSON_STATUS_ACTIVE, *person_pb2.PersonStatus.values())),
    reservation=st.sampled_from(person_pb2.Reservation.values()),
    reservation_time=MAYBE,
    language=st.integers(0, 5),
    language_updated_time=MAYBE,
    email=points(st.emails() | st.sampled_from(("Ola@EXAMPLE.com", "ola@ø.example", "ola"))),
    mobile=points(st.sampled_from(("91234567", "+47 912 34 567", "+46701234567", "112"))),
    mailboxes=st.lists(BOXES, max_size=3),
    chosen_operator_organisation_number=st.sampled_from(("", DIGIPOST, EBOKS)),
)


@settings(deadline=None, max_examples=500)
@given(GIVEN)
def test_a_person_is_read_as_by_way_of_the_domain_or_refused_alike(given_person: pb.PersonToLoad) -> None:
    as_given = given_person.SerializeToString()
    try:
        plain = person_from(given_person, NOW, identifier_from, OPERATORS)
    except InvalidValue as expected:
        with pytest.raises(InvalidValue) as refused:
            read(given_person)
        assert (refused.value.field, refused.value.reason) == (expected.field, expected.reason)
    else:
        person = read(given_person)
        assert person._replace(mailboxes=tuple(sorted(person.mailboxes))) == staged(7, plain, DIGEST)
    assert given_person.SerializeToString() == as_given


@settings(deadline=None)
@given(st.datetimes(timezones=st.just(UTC) | st.timezones()))
def test_a_time_on_the_wire_is_what_protobuf_says_that_it_is(time: datetime) -> None:
    expected = Timestamp()
    try:
        expected.FromDatetime(time)
    except (ValueError, OverflowError):
        return
    assert time_to(time) == expected
