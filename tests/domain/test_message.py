"""Which messages follow from a change, and what becomes of one whose time has come."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.domain.change import Change
from server.domain.contact import ContactKind, ContactPoint
from server.domain.identifiers import PersonIdentifier
from server.domain.message import (
    CHANNEL_TO,
    COMES_AT_ANY_HOUR,
    OF_ONE_ADDRESS,
    VALID_FOR,
    Channel,
    Due,
    MessageKind,
    Move,
    Send,
    Supersede,
    Suppress,
    channel_to,
    is_quiet,
    judge,
    messages_of,
)
from server.domain.person import DeletionReason, Language, Person
from tests import people
from tests.domain.test_person import (
    BARE,
    BOTH,
    CHOSEN,
    DIGIPOST,
    EARLIER,
    EBOKS,
    EMAIL,
    LATER,
    MOBILE,
    NEVER,
    NOW,
    REACHED,
    RESERVED,
)

SMS, BY_EMAIL, LETTER = Channel.SMS, Channel.EMAIL, Channel.LETTER
CHOICE, CODE, CHANGED, REMINDER, EXPIRED, NOTICE, BY_LETTER = MessageKind
A_MOMENT = timedelta(microseconds=1)
NUMBER, ADDRESS = "+4791234567", "ola@example.com"
BY_MOBILE = REACHED.update_contact(NOW, {EMAIL: None})
BY_ADDRESS = REACHED.update_contact(NOW, {MOBILE: None})
SHARED = replace(
    REACHED, contacts={**REACHED.contacts, MOBILE: replace(REACHED.contacts[MOBILE], shared=True)}
)
ENOUGH = 20


def due(kind: MessageKind, channel: Channel = SMS, **others: Any) -> Due:
    """A message that was written a moment ago and may go."""
    fields: dict[str, Any] = {
        "recipient": None,
        "contact_kind": None,
        "created": NOW + A_MOMENT,
        "expires": LATER + A_MOMENT,
        "outdated": False,
        "sent_today": 0,
    }
    return Due(kind, channel, **fields | others)


# What becomes of a message

JUDGED = [
    # To wherever the person is reached now.
    (due(CHOICE), REACHED, Send(NUMBER)),
    (due(CHOICE, BY_EMAIL), REACHED, Send(ADDRESS)),
    (due(CHOICE), BY_ADDRESS, Move(BY_EMAIL)),
    (due(CHOICE, BY_EMAIL), BY_MOBILE, Move(SMS)),
    (due(CHOICE), BARE, Suppress("NO_CONTACT")),
    (due(CHOICE), CHOSEN.delete(DeletionReason.OWN_CHOICE), Suppress("NO_CONTACT")),
    (due(CHOICE), RESERVED, Send(NUMBER)),
    (due(CHOICE, recipient="+4741234567"), REACHED, Send(NUMBER)),
    # Of a choice only the last is told, of a change of address each.
    (due(CHOICE, outdated=True), REACHED, Supersede()),
    (due(CODE, outdated=True, recipient=NUMBER), REACHED, Supersede()),
    (due(REMINDER, outdated=True), REACHED, Supersede()),
    (due(EXPIRED, outdated=True), REACHED, Supersede()),
    (due(BY_LETTER, LETTER, outdated=True), SHARED, Supersede()),
    (due(CHANGED, outdated=True, recipient="+4741234567"), REACHED, Send("+4741234567")),
    (due(NOTICE, BY_EMAIL, outdated=True, recipient="post@example.com"), None, Send("post@example.com")),
    # What comes too late is news no more.
    (due(CHOICE, expires=LATER), REACHED, Suppress("EXPIRED")),
    (due(CHANGED, expires=LATER, recipient=NUMBER), REACHED, Suppress("EXPIRED")),
    (due(BY_LETTER, LETTER, expires=LATER), SHARED, Suppress("EXPIRED")),
    (due(CHOICE, expires=LATER, outdated=True), REACHED, Supersede()),
    # To the former address or number, whatever the person has now.
    (due(CHANGED, recipient="+4741234567"), BARE, Send("+4741234567")),
    (due(CHANGED, BY_EMAIL, recipient="old@example.com"), BY_MOBILE, Send("old@example.com")),
    (due(CHANGED, recipient=None), REACHED, Suppress("NO_CONTACT")),
    # A code goes to what it was asked for, or not at all.
    (due(CODE, recipient=NUMBER), REACHED, Send(NUMBER)),
    (due(CODE, BY_EMAIL, recipient=ADDRESS), REACHED, Send(ADDRESS)),
    (due(CODE, BY_EMAIL, recipient="Ola@example.com"), REACHED, Suppress("NOT_WANTED")),
    (due(CODE, recipient="+4741234567"), REACHED, Suppress("NOT_WANTED")),
    (due(CODE, recipient=NUMBER), BY_ADDRESS, Suppress("NOT_WANTED")),
    (due(CODE, recipient=None), REACHED, Suppress("NOT_WANTED")),
    # A day's limit is for all but codes.
    (due(CHOICE, sent_today=ENOUGH - 1), REACHED, Send(NUMBER)),
    (due(CHOICE, sent_today=ENOUGH), REACHED, Suppress("DAILY_LIMIT")),
    (due(CHANGED, sent_today=ENOUGH, recipient=NUMBER), REACHED, Suppress("DAILY_LIMIT")),
    (due(CODE, sent_today=ENOUGH, recipient=NUMBER), REACHED, Send(NUMBER)),
    # Whoever was heard of since need not be reminded.
    (due(REMINDER), REACHED, Send(NUMBER)),
    (due(REMINDER, BY_EMAIL), REACHED, Send(ADDRESS)),
    (due(REMINDER), REACHED.confirm_contact(LATER), Suppress("NOT_WANTED")),
    (due(REMINDER), REACHED.validate_contact(LATER, EMAIL), Suppress("NOT_WANTED")),
    (due(EXPIRED), REACHED.update_contact(LATER, {EMAIL: "new@example.com"}), Suppress("NOT_WANTED")),
    (due(REMINDER), RESERVED, Suppress("NOT_WANTED")),
    (due(EXPIRED), CHOSEN.delete(DeletionReason.DEAD), Suppress("NOT_WANTED")),
    (due(EXPIRED), BY_ADDRESS, Move(BY_EMAIL)),
    # A letter is for who still shares.
    (due(BY_LETTER, LETTER), SHARED, Send(None)),
    (due(BY_LETTER, LETTER, contact_kind=MOBILE), SHARED, Send(None)),
    (due(BY_LETTER, LETTER, contact_kind=EMAIL), SHARED, Suppress("NOT_WANTED")),
    (due(BY_LETTER, LETTER), REACHED, Suppress("NOT_WANTED")),
    (due(BY_LETTER, LETTER), BARE, Suppress("NOT_WANTED")),
    # An organisation has no entry.
    (due(NOTICE, BY_EMAIL, recipient="post@example.com"), None, Send("post@example.com")),
    (due(NOTICE, BY_EMAIL), None, Suppress("NO_CONTACT")),
    # No SMS to a satellite, whoever let the number in.
    (due(CHANGED, recipient="+870773111632"), REACHED, Suppress("NUMBER_NOT_ALLOWED")),
    (due(CHANGED, recipient="+4782012345"), REACHED, Suppress("NUMBER_NOT_ALLOWED")),
]


@pytest.mark.parametrize(("message", "person", "expected"), JUDGED)
def test_what_becomes_of_a_message(message: Due, person: Person | None, expected: object) -> None:
    assert judge(message, person, LATER, ENOUGH) == expected


def test_a_satellite_number_of_the_person_gets_no_choice_by_sms() -> None:
    called = ContactPoint(value="+870773111632", updated=NOW)
    by_satellite = replace(REACHED, contacts={MOBILE: called})
    assert judge(due(CHOICE), by_satellite, LATER, ENOUGH) == Suppress("NUMBER_NOT_ALLOWED")


@given(
    message=st.builds(
        Due,
        kind=st.sampled_from(MessageKind),
        channel=st.sampled_from([SMS, BY_EMAIL]),
        recipient=st.sampled_from([None, NUMBER, ADDRESS]),
        contact_kind=st.sampled_from([None, *ContactKind]),
        created=st.sampled_from([NOW - A_MOMENT, NOW, LATER]),
        expires=st.sampled_from([LATER, LATER + A_MOMENT]),
        outdated=st.booleans(),
        sent_today=st.sampled_from([0, ENOUGH - 1, ENOUGH]),
    ),
    person=st.sampled_from([REACHED, BY_MOBILE, BY_ADDRESS, BARE, RESERVED, SHARED]),
)
def test_a_message_that_moved_is_sent_or_ends_and_never_moves_back(message: Due, person: Person) -> None:
    verdict = judge(message, person, LATER, ENOUGH)
    match verdict:
        case Move(channel):
            assert message.kind not in OF_ONE_ADDRESS
            assert channel is not message.channel
            again = judge(replace(message, channel=channel), person, LATER, ENOUGH)
            assert not isinstance(again, Move)
        case Send(recipient):
            own = {point.value for point in person.contacts.values()}
            assert recipient in ({message.recipient} if message.kind in OF_ONE_ADDRESS else own)


# Quiet hours, by Norway's clocks


@pytest.mark.parametrize(
    ("utc", "quiet"),
    [
        # Winter, an hour ahead of UTC.
        ("2026-01-15T19:59:59", False),
        ("2026-01-15T20:00:00", True),
        ("2026-01-15T23:30:00", True),
        ("2026-01-16T06:59:59", True),
        ("2026-01-16T07:00:00", False),
        # Summer, two hours ahead.
        ("2026-07-15T18:59:59", False),
        ("2026-07-15T19:00:00", True),
        ("2026-07-16T05:59:59", True),
        ("2026-07-16T06:00:00", False),
        # The night of 29 March is an hour shorter, that of 25 October an hour longer.
        ("2026-03-28T20:00:00", True),
        ("2026-03-29T00:59:59", True),
        ("2026-03-29T01:00:00", True),
        ("2026-03-29T05:59:59", True),
        ("2026-03-29T06:00:00", False),
        ("2026-10-24T18:59:59", False),
        ("2026-10-24T19:00:00", True),
        ("2026-10-25T00:30:00", True),
        ("2026-10-25T01:30:00", True),
        ("2026-10-25T06:59:59", True),
        ("2026-10-25T07:00:00", False),
    ],
)
def test_the_night_follows_the_clocks_in_norway(utc: str, quiet: bool) -> None:
    assert is_quiet(datetime.fromisoformat(utc).replace(tzinfo=UTC), (21, 8)) is quiet


@pytest.mark.parametrize(("change", "hours"), [("2026-03-29", 10), ("2026-10-25", 12), ("2026-06-01", 11)])
def test_a_night_is_as_long_as_the_clocks_make_it(change: str, hours: int) -> None:
    noon_before = datetime.fromisoformat(change).replace(tzinfo=UTC) - timedelta(hours=12)
    minutes = (noon_before + timedelta(minutes=each) for each in range(24 * 60))
    assert sum(is_quiet(minute, (21, 8)) for minute in minutes) == hours * 60


@pytest.mark.parametrize(
    ("between", "quiet"),
    [
        (None, []),
        ((21, 8), [0, 1, 2, 3, 4, 5, 6, 7, 21, 22, 23]),
        ((1, 5), [1, 2, 3, 4]),
        ((0, 23), list(range(23))),
        ((23, 0), [23]),
    ],
)
def test_the_first_hour_is_quiet_and_the_last_is_not(
    between: tuple[int, int] | None, quiet: list[int]
) -> None:
    # By UTC an hour earlier.
    day = datetime(2026, 1, 14, 23, tzinfo=UTC)
    assert [hour for hour in range(24) if is_quiet(day + timedelta(hours=hour), between)] == quiet


def test_what_comes_by_night_is_what_somebody_waits_for_or_must_know() -> None:
    assert {CHOICE, CODE, CHANGED} == COMES_AT_ANY_HOUR
    assert set(VALID_FOR) == set(MessageKind)


# By which channel


@pytest.mark.parametrize(
    ("person", "first", "channel"),
    [
        (REACHED, SMS, SMS),
        (REACHED, BY_EMAIL, BY_EMAIL),
        (BY_MOBILE, SMS, SMS),
        (BY_MOBILE, BY_EMAIL, SMS),
        (BY_ADDRESS, SMS, BY_EMAIL),
        (BY_ADDRESS, BY_EMAIL, BY_EMAIL),
        (BARE, SMS, None),
        (NEVER, BY_EMAIL, None),
    ],
)
def test_a_person_is_reached_by_the_first_channel_or_else_the_other(
    person: Person, first: Channel, channel: Channel | None
) -> None:
    assert channel_to(person, first=first) is channel


# What follows from a change

CHOSEN_AT_EBOKS = CHOSEN.choose_mailbox(EBOKS)


def told(change: Change) -> list[tuple[MessageKind, Channel, str | None]]:
    return [(each.kind, each.channel, each.recipient) for each in messages_of(change)]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (NEVER, REACHED, []),
        (REACHED, REACHED.confirm_contact(LATER), []),
        (REACHED, REACHED.validate_contact(LATER, MOBILE), []),
        (REACHED, SHARED, []),
        (REACHED, REACHED.reserve(LATER), []),
        (REACHED, BY_MOBILE, [(CHANGED, BY_EMAIL, ADDRESS)]),
        (REACHED, BY_ADDRESS, [(CHANGED, SMS, NUMBER)]),
        (BY_ADDRESS, REACHED, []),
        (REACHED, REACHED.update_contact(LATER, {MOBILE: "+4741234567"}), [(CHANGED, SMS, NUMBER)]),
        (
            REACHED,
            REACHED.update_contact(LATER, {MOBILE: None, EMAIL: "Ola@example.com"}),
            [(CHANGED, BY_EMAIL, ADDRESS), (CHANGED, SMS, NUMBER)],
        ),
        (BOTH, CHOSEN, [(CHOICE, SMS, None)]),
        (CHOSEN, CHOSEN_AT_EBOKS, [(CHOICE, SMS, None)]),
        (CHOSEN, RESERVED, []),
        (CHOSEN, CHOSEN.delete_mailbox(DIGIPOST), []),
        (CHOSEN, CHOSEN.delete(DeletionReason.OWN_CHOICE), []),
        (RESERVED, RESERVED.delete(DeletionReason.OWN_CHOICE), []),
        (
            BOTH.update_contact(NOW, {MOBILE: None}),
            BOTH.update_contact(NOW, {MOBILE: None}).choose_mailbox(DIGIPOST),
            [(CHOICE, BY_EMAIL, None)],
        ),
    ],
)
def test_what_people_are_told_of_a_change(
    before: Person, after: Person, expected: list[tuple[MessageKind, Channel, str | None]]
) -> None:
    assert sorted(told(Change(before, after))) == sorted(expected)


def test_who_takes_another_identifier_over_is_told_nothing() -> None:
    new = NEVER.take_over(replace(CHOSEN, identifier=EARLIER))
    assert messages_of(Change(NEVER, new, takes_over=EARLIER)) == []
    gone = CHOSEN.delete(DeletionReason.NEW_IDENTITY)
    assert messages_of(Change(CHOSEN, gone)) == []


def test_a_choice_with_nobody_to_tell_is_recorded_as_suppressed() -> None:
    silent = BOTH.update_contact(NOW, {EMAIL: None, MOBILE: None})
    [message] = messages_of(Change(silent, replace(silent, chosen=DIGIPOST)))
    assert (message.kind, message.suppressed, message.operator) == (CHOICE, "NO_CONTACT", DIGIPOST)


def test_the_language_is_the_persons_and_bokmål_where_none_was_chosen() -> None:
    nobody = Person(identifier=PersonIdentifier(people.OLA)).register(NOW, {EMAIL: ADDRESS}, None)
    for person, language in ((REACHED, Language.NN), (nobody, Language.NB)):
        [message] = messages_of(Change(person, person.update_contact(LATER, {EMAIL: None})))
        assert message.language is language


VALUES = st.fixed_dictionaries(
    {},
    optional={
        EMAIL: st.sampled_from([ADDRESS, "kari@example.com", "Ola@example.com"]),
        MOBILE: st.sampled_from([NUMBER, "+4741234567"]),
    },
)


@given(VALUES, VALUES)
def test_exactly_the_values_that_went_are_told_each_on_its_own_channel(
    before: dict[ContactKind, str], after: dict[ContactKind, str]
) -> None:
    person = NEVER.register(NOW, before, None)
    changed = person.update_contact(LATER, {kind: after.get(kind) for kind in ContactKind})
    gone = {(CHANGED, CHANNEL_TO[kind], value) for kind, value in before.items() if after.get(kind) != value}
    # Who is left with nothing at all, but not deleted, is told too.
    assert set(told(Change(person, changed))) == gone
