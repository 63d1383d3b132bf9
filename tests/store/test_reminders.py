"""Reminders of stale contact info: the right step at the right second, once, to whom they are due."""

import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from krr.v1 import register_service_pb2

from server.domain.contact import ContactKind, ContactPoint
from server.domain.identifiers import PersonIdentifier
from server.domain.message import Channel
from server.domain.person import Language, Person, Status
from server.domain.reminder import NotReminded
from server.encoded_person import encode_person, look_up_entries, microseconds
from server.store.reminders import ReminderBatch, remind_batch
from server.store.store import Store
from tests.domain import plainly
from tests.store import steps
from tests.store.steps import KARI, OLA, in_time, write

STEPS = (16, 18)
OSLO = ZoneInfo("Europe/Oslo")
EMAIL, MOBILE = ContactKind.EMAIL, ContactKind.MOBILE
SECOND = timedelta(seconds=1)
PERSONS = 2000

# In Norway: New Year, both leap days of steps that end on one, months that are shorter than the one
# that they began in, and around the hours that clocks skip (at 01:00 UTC) and have twice.
MOMENTS = sorted(
    datetime.fromisoformat(moment).astimezone(UTC)
    for moment in (
        "2027-01-01T00:00:00+01:00",
        "2027-02-28T23:59:59+01:00",
        "2027-03-28T00:59:59+00:00",
        "2027-03-28T01:00:00+00:00",
        "2027-03-28T01:30:00+00:00",
        "2027-06-30T12:00:00+02:00",
        "2027-10-31T00:30:00+00:00",
        "2027-10-31T01:00:00+00:00",
        "2027-10-31T01:30:00+00:00",
        "2028-02-29T00:00:00+01:00",
        "2028-02-29T12:34:56+01:00",
        "2028-03-01T00:00:00+01:00",
        "2028-03-26T01:00:00+00:00",
        "2028-08-31T23:59:59+02:00",
        "2028-10-29T00:59:59+00:00",
        "2028-10-29T01:00:00+00:00",
        "2029-02-28T08:00:00+01:00",
        "2029-12-31T23:59:59+01:00",
    )
)


def _remind(
    store: Store, now: datetime, *, after: int = 0, limit: int = 10_000, dry_run: bool = False
) -> ReminderBatch:
    return store.write(
        steps.ADMINISTRATOR,
        lambda transaction: remind_batch(transaction, now, STEPS, after=after, limit=limit, dry_run=dry_run),
        deadline=in_time(),
    )


def _enter(store: Store, identifier: PersonIdentifier, **points: datetime) -> None:
    contacts = {
        ContactKind(kind): ContactPoint(
            value="ola@example.com" if kind == EMAIL else "+4791234567", updated=updated
        )
        for kind, updated in points.items()
    }
    write(store, identifier, lambda person: replace(person, status=Status.ACTIVE, contacts=contacts))


def _write(store: Store, person: Person) -> None:
    write(store, person.identifier, lambda _: person)


def _messages(database: "psycopg.Connection[Any]") -> list[tuple[Any, ...]]:
    return database.execute(
        "SELECT identifier, kind, channel, deadline_date::text FROM message"
        " JOIN person ON person.id = person_id ORDER BY number"
    ).fetchall()


def test_every_reminder_and_every_notifiable_is_right_to_the_second(
    store: Store, database: "psycopg.Connection[Any]"
) -> None:
    chance = random.Random(18)
    persons = [
        Person(identifier=identifier, status=Status.ACTIVE, contacts=_points(chance, number))
        for number, identifier in enumerate(steps.some_persons(PERSONS))
    ]
    persons = [replace(each, reserved=number % 50 == 0) for number, each in enumerate(persons)]
    for person in persons:
        _write(store, person)
    reminded: set[tuple[str, ContactKind, int]] = set()
    expected: Counter[tuple[str, str]] = Counter()

    for now in MOMENTS:
        for person in persons:
            message = _expected(person, now, reminded)
            if message:
                expected[person.identifier, message] += 1
            assert _notifiable(person, now) == _plainly_notifiable(person, now), (person, now)
        _remind(store, now)
        found = Counter((identifier, kind) for identifier, kind, _, _ in _messages(database))
        assert found == expected, now

    assert expected.total() > PERSONS
    assert {kind for _, kind in expected} == {"CONTACT_REMINDER", "CONTACT_EXPIRED"}


def _points(chance: random.Random, number: int) -> dict[ContactKind, ContactPoint]:
    """Contact points whose steps end at one of the moments, or a second before or after."""
    kinds = [[EMAIL], [MOBILE], [EMAIL, MOBILE]][number % 3]
    return {
        kind: ContactPoint(
            value="ola@example.com" if kind is EMAIL else "+4791234567", updated=_last_seen(chance)
        )
        for kind in kinds
    }


def _last_seen(chance: random.Random) -> datetime:
    moment = chance.choice(MOMENTS).astimezone(OSLO)
    years, month = divmod(moment.month - 1 - chance.choice(STEPS), 12)
    # All of them end on the last day of a month that has no such day.
    days = [moment.day] if (moment + timedelta(days=1)).month == moment.month else [moment.day, 29, 30, 31]
    while True:
        try:
            local = moment.replace(
                year=moment.year + years, month=month + 1, day=chance.choice(days), fold=chance.choice((0, 1))
            )
        except ValueError:
            days = [28]
            continue
        return local.astimezone(UTC) + chance.choice((-SECOND, timedelta(), SECOND))


def _expected(person: Person, now: datetime, reminded: set[tuple[str, ContactKind, int]]) -> str | None:
    """The kind of message that the person is to get now."""
    if person.reserved:
        return None
    due: list[tuple[datetime, int]] = []
    for kind, point in person.contacts.items():
        passed = [months for months in STEPS if now > plainly.months_later(point.updated, months)]
        if passed and (person.identifier, kind, passed[-1]) not in reminded:
            due.append((plainly.months_later(point.updated, 18), passed[-1]))
        reminded |= {(person.identifier, kind, months) for months in passed}
    if not due:
        return None
    return "CONTACT_EXPIRED" if min(due)[1] == 18 else "CONTACT_REMINDER"


def _notifiable(person: Person, now: datetime) -> bool:
    [entry] = look_up_entries(
        [(person.identifier, encode_person(person))], for_notices=True, now=microseconds(now)
    )
    read = register_service_pb2.LookUpPersonsResponse.FromString(entry).entries[0]
    return read.notifiable == register_service_pb2.NOTIFIABLE_YES


def _plainly_notifiable(person: Person, now: datetime) -> bool:
    return not person.reserved and any(
        now <= plainly.months_later(point.updated, 18) for point in person.contacts.values()
    )


NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
STALE = datetime(2025, 5, 1, 12, tzinfo=UTC)
AGING = datetime(2025, 7, 1, 12, tzinfo=UTC)


def test_a_reminder_goes_by_email_first_and_names_the_last_day(
    store: Store, database: "psycopg.Connection[Any]"
) -> None:
    _enter(store, OLA, email=NOW, mobile=AGING)
    _enter(store, KARI, mobile=STALE)

    batch = _remind(store, NOW)

    assert batch.written == {(16, Channel.EMAIL): 1, (18, Channel.SMS): 1}
    assert set(_messages(database)) == {
        (OLA, "CONTACT_REMINDER", "EMAIL", "2027-01-01"),
        (KARI, "CONTACT_EXPIRED", "SMS", "2026-11-01"),
    }


def test_nobody_is_reminded_of_a_step_twice_and_a_word_begins_the_steps_anew(
    store: Store, database: "psycopg.Connection[Any]"
) -> None:
    _enter(store, OLA, email=STALE)
    assert _remind(store, NOW).written == {(18, Channel.EMAIL): 1}

    again = _remind(store, NOW + timedelta(days=1))
    assert (again.written, again.not_reminded) == ({}, {NotReminded.ALREADY_REMINDED: 1})

    write(store, OLA, lambda person: person.confirm_contact(NOW))
    assert _remind(store, NOW + timedelta(days=400)).not_reminded == {NotReminded.FRESH: 1}
    assert _remind(store, NOW + timedelta(days=500)).written == {(16, Channel.EMAIL): 1}


def test_an_answer_takes_back_the_reminder_that_waits(store: Store) -> None:
    _enter(store, OLA, email=STALE)
    _remind(store, NOW)
    write(store, OLA, lambda person: person.confirm_contact(datetime.now(UTC) + SECOND))
    assert steps.lease_messages_of(store, "EMAIL") == []
    assert steps.message_states(store) == [("SUPPRESSED", "NOT_WANTED")]


def test_a_dry_run_writes_nothing_and_tells_what_a_run_will_do(
    store: Store, database: "psycopg.Connection[Any]"
) -> None:
    everybody = steps.some_persons(8)
    for identifier, point in zip(
        everybody, (STALE, AGING, NOW, STALE, AGING, NOW, STALE, STALE), strict=True
    ):
        _enter(store, identifier, email=point)
    write(store, everybody[0], lambda person: person.reserve(NOW))
    write(store, everybody[1], lambda person: person.update_contact(NOW, {EMAIL: None}))

    told = _remind(store, NOW, dry_run=True)

    assert told.written == {(16, Channel.EMAIL): 1, (18, Channel.EMAIL): 3}
    assert told.not_reminded == {NotReminded.FRESH: 2, NotReminded.NO_CONTACT: 1, NotReminded.RESERVED: 1}
    reminded = "SELECT count(*) FROM contact_reminder"
    assert database.execute(reminded).fetchone() == (0,)
    before = _messages(database)
    assert [kind for _, kind, _, _ in before if kind != "CONTACT_CHANGED"] == []
    assert _remind(store, NOW) == told
    assert len(_messages(database)) == len(before) + 4


def test_two_runs_at_once_remind_everybody_once(store: Store, database: "psycopg.Connection[Any]") -> None:
    everybody = steps.some_persons(200)
    for identifier in everybody:
        _enter(store, identifier, email=STALE)

    def run() -> int:
        written, after = 0, 0
        while True:
            batch = _remind(store, NOW, after=after, limit=20)
            written += sum(batch.written.values())
            if batch.last is None:
                return written
            after = batch.last

    assert sum(steps.together(run, run, run)) == len(everybody)
    assert sorted(row[0] for row in _messages(database)) == sorted(everybody)


def test_the_language_is_the_persons(store: Store) -> None:
    _enter(store, OLA, email=STALE)
    write(store, OLA, lambda person: person.set_language(NOW, Language.SE))
    _remind(store, NOW)
    assert [message.language for message in steps.lease_messages_of(store, "EMAIL")] == ["se"]


@pytest.mark.parametrize("limit", [1, 7, 20])
def test_batches_of_any_size_reach_everybody(
    store: Store, database: "psycopg.Connection[Any]", limit: int
) -> None:
    everybody = steps.some_persons(20)
    for identifier in everybody:
        _enter(store, identifier, email=STALE)
    batch = _remind(store, NOW, limit=limit)
    while batch.last is not None:
        batch = _remind(store, NOW, after=batch.last, limit=limit)
    assert len(_messages(database)) == len(everybody)
