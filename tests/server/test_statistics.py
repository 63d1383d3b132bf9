"""GetStatistics: every number is what the rules say of each person, at the moment of the count."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, product

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from krr.v1 import person_pb2, statistics_pb2
from sqlalchemy import text

from server.domain.caller import Caller, CallerKind
from server.domain.contact import ContactKind, ContactPoint
from server.domain.errors import Reason, Refusal
from server.domain.identifiers import MailboxAddress, OrganisationNumber, PersonIdentifier
from server.domain.look_up import Purpose, look_up, standing_of
from server.domain.person import Language, Mailbox, Person, Status
from server.domain.rules import STALE_AFTER_MONTHS, months_later
from server.encoded_person import encode_person
from server.store.statistics import MailboxCounts, PersonCounts, Statistics, count_all, expired_times
from server.store.store import Store
from server.store.transaction import Reader
from tests.conftest import Register
from tests.people import DIGIPOST, EBOKS, KARI, NIELS, OLA, synthetic_identifiers
from tests.plain_loading import load_persons
from tests.server.test_administration import delete
from tests.server.test_look_up import EMAIL, MAILBOX, MOBILE, OLD_EMAIL, RESERVED, contact, load

ADMINISTRATOR = Caller(CallerKind.ADMINISTRATOR, "test")
MICROSECOND, HOUR, DAY = timedelta(microseconds=1), timedelta(hours=1), timedelta(days=1)

# Around these the rule is no plain subtraction.
EDGES = [
    datetime.fromisoformat(edge).astimezone(UTC)
    for edge in (
        "2023-08-31T12:00+02:00",  # until a leap day
        "2022-08-29T00:00+02:00",
        "2024-08-30T23:59:59.999999+02:00",  # until 28 February
        "2024-02-29T12:00+01:00",  # from a leap day
        "2024-03-31T01:00+00:00",  # from when the clocks go forward
        "2024-10-27T00:30+00:00",  # from an hour that autumn repeats
        "2024-10-27T01:00+00:00",
        "2024-09-29T02:30+02:00",  # until an hour that spring skips
        "2024-04-26T02:30+02:00",  # until an hour that autumn repeats
        "2024-12-31T23:30+01:00",
    )
]
TIMES = st.one_of(
    st.sampled_from(EDGES),
    st.timedeltas(timedelta(), timedelta(days=120 * 365)).map(datetime(1980, 1, 1, tzinfo=UTC).__add__),
)
NEAR = st.one_of(
    st.sampled_from([timedelta(), MICROSECOND, -MICROSECOND, HOUR, -HOUR, DAY, -DAY]),
    st.timedeltas(-8 * DAY, 8 * DAY),
)


@given(heard=TIMES, now_later=NEAR, heard_later=NEAR)
@example(EDGES[0], timedelta(), timedelta())
@example(EDGES[2], -HOUR, DAY)
def test_what_counts_as_expired_is_what_the_rule_says(
    heard: datetime, now_later: timedelta, heard_later: timedelta
) -> None:
    now = months_later(heard, STALE_AFTER_MONTHS) + now_later
    heard += heard_later
    is_expired = ContactPoint(value="x", updated=heard).is_expired(now)

    assert any(heard in times for times in expired_times(now)) == is_expired


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """The store of an empty register."""
    opened = Store(database_url, encode_person, connections=2, require_durable=False)
    yield opened
    opened.close()


def deadline() -> float:
    return time.monotonic() + 20


def count(store: Store, now: datetime) -> Statistics:
    return store.read_one_moment(lambda reader: count_all(reader, now), deadline=deadline())


def some_persons(seed: int) -> list[Person]:
    """Persons of all sorts, heard of close to 18 months before one of the edges, or just now."""
    random_ = random.Random(seed)
    times = [edge + near for edge in EDGES for near in (timedelta(), MICROSECOND, -MICROSECOND, HOUR, -DAY)]
    times.append(datetime(2026, 9, 1, tzinfo=UTC))

    def point(value: str) -> ContactPoint:
        updated, confirmed, validated = (random_.choice(times) for _ in range(3))
        return ContactPoint(
            value=value,
            updated=updated,
            confirmed=random_.choice([None, confirmed]),
            validated=random_.choice([None, validated]),
            shared=random_.random() < 0.2,
        )

    def person(identifier: str) -> Person:
        if random_.random() < 0.1:
            return Person(identifier=PersonIdentifier(identifier), status=Status.DELETED)
        kinds = {ContactKind.EMAIL: "a@example.com", ContactKind.MOBILE: "+4791234567"}
        operators = [operator for operator in (DIGIPOST, EBOKS) if random_.random() < 0.5]
        return Person(
            identifier=PersonIdentifier(identifier),
            status=Status.ACTIVE,
            reserved=random_.random() < 0.3,
            language=random_.choice([None, Language.NB, Language.NN, Language.SE]),
            contacts={kind: point(value) for kind, value in kinds.items() if random_.random() < 0.8},
            mailboxes=tuple(
                Mailbox(operator=OrganisationNumber(each), address=MailboxAddress("citizen#1234"))
                for each in operators
            ),
            chosen=OrganisationNumber(random_.choice(operators)) if operators else None,
        )

    return [person(identifier) for identifier in islice(synthetic_identifiers(), 400)]


def expected(persons: list[Person], now: datetime) -> Statistics:
    """What the domain's rules say of each, added up."""
    counts, languages = Counter[str](), Counter[Language | None]()
    mailboxes = Counter[tuple[str, bool]]()
    for person in persons:
        if person.status is Status.DELETED:
            counts["deleted"] += 1
            continue
        is_expired = {kind: point.is_expired(now) for kind, point in person.contacts.items()}
        found = look_up(standing_of(person), is_expired, Purpose.NOTICE)
        languages[person.language] += 1
        counts["active"] += 1
        counts["email"] += ContactKind.EMAIL in is_expired
        counts["mobile"] += ContactKind.MOBILE in is_expired
        counts["both"] += len(is_expired) == 2
        counts["contact"] += len(is_expired) > 0
        counts["reserved with"] += person.reserved and len(is_expired) > 0
        counts["reserved without"] += person.reserved and not is_expired
        counts["expired"] += len(found.expired) > 0 and len(found.expired) == len(is_expired)
        counts["notifiable"] += found.notifiable
        for kind, point in person.contacts.items():
            counts[f"shared {kind}"] += point.shared
        public = person.public_mailbox()
        for box in person.mailboxes:
            mailboxes[box.operator, box == public] += 1
    return Statistics(
        PersonCounts(
            active_count=counts["active"],
            deleted_count=counts["deleted"],
            with_email_count=counts["email"],
            with_mobile_count=counts["mobile"],
            with_email_and_mobile_count=counts["both"],
            with_contact_count=counts["contact"],
            reserved_with_contact_count=counts["reserved with"],
            reserved_without_contact_count=counts["reserved without"],
            expired_count=counts["expired"],
            notifiable_count=counts["notifiable"],
            shared_email_count=counts["shared email"],
            shared_mobile_count=counts["shared mobile"],
        ),
        {language: languages[language] for language in (*Language, None)},
        tuple(
            MailboxCounts(OrganisationNumber(number), name, mailboxes[number, True], mailboxes[number, False])
            for number, name in ((EBOKS, "e-Boks"), (DIGIPOST, "Digipost"))
        ),
    )


def test_the_database_counts_as_the_rules_do_at_every_edge(store: Store) -> None:
    persons = some_persons(seed=4)
    load_persons(store, persons, deadline=deadline())
    seen = set()

    for edge, near in product(EDGES, (timedelta(), MICROSECOND, -MICROSECOND)):
        now = months_later(edge, STALE_AFTER_MONTHS) + near
        counted = count(store, now)
        assert counted == expected(persons, now)
        seen.add(counted.persons.expired_count)

    assert len(seen) > len(EDGES), "the edges made no difference: what was loaded is too far from them"


def test_an_empty_register_has_zeros_for_every_language_and_operator(register: Register) -> None:
    counted = get_statistics(register)

    assert [(each.language, each.active_count) for each in counted.languages] == [
        (number, 0) for number in (1, 2, 3, 4, 0)
    ]
    assert [(each.name, each.active_mailbox_count) for each in counted.operators] == [
        ("e-Boks", 0),
        ("Digipost", 0),
    ]
    assert counted.active_count == counted.deleted_count == 0


def get_statistics(register: Register) -> statistics_pb2.GetStatisticsResponse:
    return register.as_administrator().GetStatistics(statistics_pb2.GetStatisticsRequest())


def test_the_answer_holds_what_was_counted_and_when(
    register: Register, database: "psycopg.Connection[object]"
) -> None:
    others = islice(synthetic_identifiers(), 2)
    load(register, OLA, email=EMAIL, mobile=MOBILE, language=person_pb2.LANGUAGE_NN, **MAILBOX)
    load(register, KARI, email=OLD_EMAIL, **MAILBOX, **RESERVED)
    load(register, NIELS, **RESERVED)
    load(register, next(others), mobile=contact("+4792345678", EMAIL.updated_time))
    load(register, gone := next(others), email=EMAIL)
    delete(register, identifier=gone)
    # A job of the register's finds them within seconds; this does not wait for it.
    database.execute("UPDATE person SET email_shared = true WHERE identifier = %s", (OLA,))

    before = datetime.now(UTC)
    counted = get_statistics(register)

    assert before <= counted.counted_time.ToDatetime(UTC) <= datetime.now(UTC)
    counted.ClearField("counted_time")
    assert counted == statistics_pb2.GetStatisticsResponse(
        active_count=4,
        deleted_count=1,
        with_email_count=2,
        with_mobile_count=2,
        with_email_and_mobile_count=1,
        with_contact_count=3,
        reserved_with_contact_count=1,
        reserved_without_contact_count=1,
        expired_count=1,
        notifiable_count=2,
        shared_email_count=1,
        shared_mobile_count=0,
        languages=[
            statistics_pb2.LanguageStatistics(language=person_pb2.LANGUAGE_NB),
            statistics_pb2.LanguageStatistics(language=person_pb2.LANGUAGE_NN, active_count=1),
            statistics_pb2.LanguageStatistics(language=person_pb2.LANGUAGE_EN),
            statistics_pb2.LanguageStatistics(language=person_pb2.LANGUAGE_SE),
            statistics_pb2.LanguageStatistics(active_count=3),
        ],
        operators=[
            statistics_pb2.OperatorStatistics(operator_organisation_number=EBOKS, name="e-Boks"),
            statistics_pb2.OperatorStatistics(
                operator_organisation_number=DIGIPOST,
                name="Digipost",
                active_mailbox_count=1,
                inactive_mailbox_count=1,
            ),
        ],
    )


def test_a_count_sees_nothing_that_was_committed_since_it_began(
    store: Store, database: "psycopg.Connection[object]"
) -> None:
    def operators_around_a_commit(reader: Reader) -> list[int | None]:
        seen = [reader.connection.scalar(text("SELECT count(*) FROM mailbox_operator"))]
        database.execute("INSERT INTO mailbox_operator VALUES ('991825827', 'New', 'new')")
        return [*seen, reader.connection.scalar(text("SELECT count(*) FROM mailbox_operator"))]

    assert store.read_one_moment(operators_around_a_commit, deadline=deadline()) == [2, 2]


def test_a_count_leaves_the_connection_fit_for_writes(store: Store) -> None:
    count(store, datetime.now(UTC))
    persons = some_persons(seed=1)[:3]
    assert load_persons(store, persons, deadline=deadline()) == 3


def test_a_count_may_take_longer_than_other_reads_but_not_past_its_deadline(store: Store) -> None:
    def slowly(reader: Reader) -> object:
        return reader.connection.scalar(text("SELECT 1 FROM pg_sleep(2.2)"))

    assert store.read_one_moment(slowly, deadline=deadline()) == 1
    with pytest.raises(Refusal) as refused:
        store.read_one_moment(slowly, deadline=time.monotonic() + 0.1)
    assert refused.value.reason is Reason.DEADLINE
