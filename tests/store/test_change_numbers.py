"""The change feed under concurrent writers: nothing is missed, nothing goes back."""

import random
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import psycopg
import pytest
from krr.v1 import person_pb2, register_service_pb2

from server import encoded_person, translate
from server.domain.change import Change
from server.domain.contact import ContactKind
from server.domain.errors import Refusal
from server.domain.person import DeletionReason, Person, Status
from server.store.deliveries import lease_deliveries
from server.store.store import Store
from server.store.transaction import Answer, Transaction
from tests.plain_loading import load_persons
from tests.store import steps
from tests.store.steps import (
    A_DAY,
    A_MINUTE,
    DIGIPOST,
    EBOKS,
    KARI,
    NOW,
    OLA,
    choose,
    in_time,
    person_of,
    register,
    write,
)

WRITERS = 8
WRITES = 60
PERSONS = steps.some_persons(50)


def _random_verb(chance: random.Random) -> Callable[[Person], Person]:
    verbs: list[Callable[[Person], Person]] = [
        lambda person: person.register(NOW, {ContactKind.MOBILE: "+4791234567"}, None),
        lambda person: person.update_contact(NOW, {ContactKind.EMAIL: f"{chance.random()}@example.com"}),
        lambda person: person.reserve(NOW),
        lambda person: person.cancel_reservation(NOW),
        lambda person: person.create_and_choose_mailbox(steps.MAILBOXES[0]),
        lambda person: person.create_mailbox(steps.MAILBOXES[1]),
        lambda person: person.choose_mailbox(chance.choice([DIGIPOST, EBOKS])),
        lambda person: person.delete(DeletionReason.OWN_CHOICE),
    ]
    return chance.choice(verbs)


def _write_much(store: Store, seed: int) -> int:
    chance, done = random.Random(seed), 0
    for _ in range(WRITES):
        try:
            write(store, chance.choice(PERSONS), _random_verb(chance))
            done += 1
        except Refusal:
            continue
    return done


def _read_on(store: Store, after: int, limit: int) -> tuple[list[person_pb2.Person], int]:
    """The next page as readers get it, and its cursor."""
    persons, last, _ = store.read_encoded(lambda reader: reader.changed(after, limit), deadline=in_time())
    page = encoded_person.changes(persons)
    return list(register_service_pb2.ListChangesResponse.FromString(page).persons), last


def _follow(store: Store, writers: list[Future[int]]) -> dict[str, person_pb2.Person]:
    """A reader's copy, kept page by page until the writers have ended and no page is left."""
    chance, copy, cursor = random.Random(0), dict[str, person_pb2.Person](), 0
    while True:
        last = all(writer.done() for writer in writers)
        before = cursor
        page, cursor = _read_on(store, cursor, chance.randint(1, 20))
        numbers = [person.change_number for person in page]
        assert numbers == sorted(set(numbers)), "in order of change number"
        assert len({person.identifier for person in page}) == len(page), "each person once per page"
        assert not numbers or before < numbers[0] <= numbers[-1] == cursor, "only what comes after the cursor"
        for person in page:
            known = copy.get(person.identifier)
            assert known is None or known.change_number < person.change_number, "no person goes back"
            copy[person.identifier] = person
        if last and not page:
            return copy


def test_a_reader_of_the_feed_ends_with_what_the_register_holds(store: Store) -> None:
    with ThreadPoolExecutor(WRITERS + 1) as threads:
        writers = [threads.submit(_write_much, store, seed) for seed in range(WRITERS)]
        copy = threads.submit(_follow, store, writers).result()

    persons = store.read(lambda reader: reader.persons(PERSONS), deadline=in_time())
    held = {
        name: translate.person_to(person)
        for name, person in persons.items()
        if person.status is not Status.NOT_REGISTERED
    }
    assert copy == held
    enough_to_prove_something = WRITERS * WRITES / 4
    assert sum(writer.result() for writer in writers) > enough_to_prove_something


def test_every_change_has_a_number_of_its_own_and_none_is_left_out(
    store: Store, database: psycopg.Connection
) -> None:
    steps.together(*(partial(_write_much, store, seed) for seed in range(WRITERS)))

    numbers = [row[0] for row in database.execute("SELECT DISTINCT change_number FROM history ORDER BY 1")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert store.read(lambda reader: reader.last_change_number(), deadline=in_time()) == len(numbers)


def test_what_is_not_committed_is_not_in_the_feed_and_holds_up_nobody_who_reads(store: Store) -> None:
    register(store, OLA)
    seen_inside: list[int] = []

    def do(transaction: Transaction) -> None:
        before = transaction.person(OLA)
        transaction.record([Change(before, before.reserve(NOW))], NOW)
        seen_inside.extend(person.change_number for person in _read_on(store, 0, 10)[0])

    store.write(steps.ADMINISTRATOR, do, deadline=in_time())

    assert seen_inside == [1]
    assert [person.change_number for person in _read_on(store, 0, 10)[0]] == [2]


def test_a_write_that_waits_for_an_adapter_holds_up_no_other_write(store: Store) -> None:
    for identifier in (OLA, KARI):
        register(store, identifier)
        choose(store, identifier, DIGIPOST)
    waiting: list[Future[Answer]] = []

    with ThreadPoolExecutor() as threads:

        def lease_and_stay(transaction: Transaction) -> None:
            lease_deliveries(transaction, "digipost", limit=1, duration=A_MINUTE, wait_for_new_operator=A_DAY)
            waiting.append(threads.submit(write, store, OLA, lambda person: person.reserve(NOW)))
            with pytest.raises(TimeoutError):
                waiting[0].result(timeout=0.2)
            assert write(store, KARI, lambda person: person.reserve(NOW)).change_number == 5

        store.write(steps.ADMINISTRATOR, lease_and_stay, deadline=in_time())
        assert waiting[0].result().change_number == 6


def test_a_verb_that_changes_nothing_takes_no_number(store: Store) -> None:
    register(store, OLA)
    first = write(store, OLA, lambda person: person.reserve(NOW)).change_number
    again = write(store, OLA, lambda person: person.reserve(NOW)).change_number
    assert (first, again) == (2, 2)
    assert store.read(lambda reader: reader.last_change_number(), deadline=in_time()) == 2


def test_a_deleted_person_stands_in_the_feed_as_a_tombstone(store: Store) -> None:
    register(store, OLA)
    register(store, KARI)
    write(store, OLA, lambda person: person.delete(DeletionReason.OWN_CHOICE))

    (kari, ola), _ = _read_on(store, 0, 10)
    assert (kari.identifier, kari.status) == (KARI, person_pb2.PERSON_STATUS_ACTIVE)
    assert ola == person_pb2.Person(
        identifier=OLA,
        status=person_pb2.PERSON_STATUS_DELETED,
        deletion_reason=person_pb2.DELETION_REASON_OWN_CHOICE,
        change_number=3,
    )


def test_a_person_is_read_back_as_written(store: Store) -> None:
    register(store, OLA)

    def verb(person: Person) -> Person:
        return person.choose_mailbox(EBOKS).reserve(NOW).confirm_contact(NOW)

    expected = verb(person_of(store, OLA))
    number = write(store, OLA, verb).change_number
    found = person_of(store, OLA)
    assert found == replace(expected, change_number=number)


def test_loaded_persons_stand_in_the_feed_in_order_and_create_no_work(
    store: Store, database: psycopg.Connection
) -> None:
    register(store, OLA)
    persons = [
        Person(identifier=name).register(NOW, {ContactKind.MOBILE: "+4791234567"}, None) for name in PERSONS
    ]
    loaded = [
        person.create_and_choose_mailbox(steps.MAILBOXES[0])
        for person in [*persons, Person(identifier=OLA).register(NOW, {ContactKind.MOBILE: "+1"}, None)]
    ]

    entered = load_persons(store, loaded, deadline=in_time())

    assert entered == len(PERSONS)
    assert [person.change_number for person in _read_on(store, 1, 100)[0]] == list(range(2, len(PERSONS) + 2))
    assert person_of(store, OLA).change_number == 1
    assert database.execute("SELECT count(*) FROM delivery").fetchone() == (0,)
    assert database.execute("SELECT count(*) FROM message").fetchone() == (0,)
