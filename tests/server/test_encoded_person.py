"""Answers put together from stored bytes equal those built message by message."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from krr.v1 import register_service_pb2 as pb

from server import encoded_person, translate
from server.domain.contact import ContactKind, ContactPoint
from server.domain.errors import Reason
from server.domain.identifiers import MailboxAddress, OrganisationNumber, PersonIdentifier
from server.domain.look_up import Purpose, look_up, standing_of
from server.domain.person import DeletionReason, Language, Mailbox, OperatorState, Person, Status
from tests.people import DIGIPOST, EBOKS, OLA

NOW = datetime(2026, 11, 22, 12, 0, 0, 1, tzinfo=UTC)

times = st.integers(1, 1_795_000_000_000_000).map(
    lambda microseconds: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
)
# Where the moment is just before, at and after the last one allowed.
expiring = st.sampled_from([-1, 0, 1]).map(
    lambda microseconds: datetime(2025, 5, 22, 11, 0, 0, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
)
text = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=300)
operators = st.sampled_from([OrganisationNumber(DIGIPOST), OrganisationNumber(EBOKS)])
points = st.builds(
    ContactPoint,
    value=text,
    updated=times | expiring,
    confirmed=st.none() | times,
    validated=st.none() | times,
    shared=st.booleans(),
)
mailboxes = st.builds(
    Mailbox,
    operator=operators,
    address=text.map(MailboxAddress),
    certificate=st.none() | st.binary(min_size=1, max_size=3000),
    operator_state=st.sampled_from(OperatorState),
)
numbers = st.integers(1, 2**63 - 1) | st.integers(1, 300)
active = st.builds(
    Person,
    identifier=st.just(PersonIdentifier(OLA)),
    status=st.just(Status.ACTIVE),
    reserved=st.booleans(),
    reservation_time=st.none() | times,
    language=st.none() | st.sampled_from(Language),
    language_updated=st.none() | times,
    contacts=st.dictionaries(st.sampled_from(ContactKind), points),
    mailboxes=st.lists(mailboxes, unique_by=lambda box: box.operator).map(tuple),
    chosen=st.none() | operators,
    change_number=numbers,
)
gone = st.builds(
    Person,
    identifier=st.just(PersonIdentifier(OLA)),
    status=st.just(Status.DELETED),
    deletion_reason=st.none() | st.sampled_from(DeletionReason),
    change_number=numbers,
)
persons = active | gone | st.just(Person(identifier=PersonIdentifier(OLA)))
moments = st.just(NOW) | times


def plain_entry(person: Person, purpose: Purpose, now: datetime) -> pb.LookUpEntry:
    """The entry built message by message, as one would without stored bytes."""
    is_expired = {kind: point.is_expired(now) for kind, point in person.contacts.items()}
    meaning = look_up(standing_of(person), is_expired, purpose)
    given = {kind: point for kind, point in person.contacts.items() if kind not in meaning.left_out}
    entry = translate.meaning_to(meaning)
    entry.requested_identifier = person.identifier
    entry.person.CopyFrom(translate.person_to(replace(person, contacts=given)))
    return entry


@given(st.lists(persons, max_size=4), st.sampled_from(Purpose), moments)
def test_entries_put_together_equal_those_built_as_messages(
    some: list[Person], purpose: Purpose, now: datetime
) -> None:
    moment = encoded_person.microseconds(now)
    found = [(each.identifier, encoded_person.encode_person(each)) for each in some]
    entries = encoded_person.look_up_entries(found, for_notices=purpose is Purpose.NOTICE, now=moment)
    response = b"".join(entries)

    for parse in (pb.LookUpPersonsResponse.FromString, pb.LookUpPersonsStreamResponse.FromString):
        assert list(parse(response).entries) == [plain_entry(each, purpose, now) for each in some]


@given(st.lists(persons, max_size=4), st.text(), st.booleans())
def test_a_page_put_together_equals_one_built_as_a_message(
    some: list[Person], cursor: str, caught_up: bool
) -> None:
    end = pb.ListChangesResponse(cursor=cursor, caught_up=caught_up).SerializeToString()
    page = encoded_person.changes([encoded_person.encode_person(each) for each in some]) + end

    for response in (pb.ListChangesResponse, pb.WatchChangesResponse):
        assert response.FromString(page) == response(
            persons=[translate.person_to(each) for each in some], cursor=cursor, caught_up=caught_up
        )


@given(numbers, persons)
def test_encoded_bytes_begin_with_the_change_number_and_hold_it_nowhere_else(
    number: int, person: Person
) -> None:
    encoded = encoded_person.encode_person(replace(person, change_number=number))

    # The database compares the first 8 bytes, and an import puts its own number there.
    assert encoded[:8] == number.to_bytes(8, "big")
    assert encoded[8:] == encoded_person.encode_person(person)[8:]


@given(active, st.booleans(), st.booleans())
def test_other_flags_in_encoded_bytes_equal_the_person_with_them_encoded(
    person: Person, email_shared: bool, mobile_shared: bool
) -> None:
    flags = {ContactKind.EMAIL: email_shared, ContactKind.MOBILE: mobile_shared}
    contacts = {kind: replace(point, shared=flags[kind]) for kind, point in person.contacts.items()}

    encoded = encoded_person.with_shared(
        encoded_person.encode_person(person), {kind: flags[kind] for kind in contacts}
    )

    assert encoded == encoded_person.encode_person(replace(person, contacts=contacts))


@pytest.mark.parametrize("requested", ["", "x", "ø" * 40, "1" * 200])
def test_a_refused_entry_names_what_was_asked_for_and_why(requested: str) -> None:
    response = encoded_person.refused_entry(requested, Reason.INVALID_IDENTIFIER)

    [entry] = pb.LookUpPersonsResponse.FromString(response).entries
    assert entry == translate.refused_entry_to(requested, Reason.INVALID_IDENTIFIER)
