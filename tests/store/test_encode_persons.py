"""Persons ready to be sent: stored with every write, and given to those without by a job."""

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import psycopg
import pytest

from server.domain.contact import ContactKind, ContactPoint
from server.domain.identifiers import PersonIdentifier
from server.domain.person import DeletionReason, Language, Person, Status
from server.encoded_person import encode_person
from server.jobs.encode_persons import encode_persons, encode_some
from server.jobs.recount_shared_contact import recount
from server.store.store import Store
from server.store.transaction import Transaction
from server.store.unencoded import give_encoded
from tests.plain_loading import load_persons
from tests.store.conftest import connect
from tests.store.sharing import (
    ADDRESS,
    EMAIL,
    OTHER_ADDRESS,
    VALUES,
    enter,
    recount_all,
    replace_identifier,
    somebody_waits_for_a_lock,
    update,
    wait_until,
    write_as_code_from_before,
)
from tests.store.steps import (
    ADMINISTRATOR,
    DIGIPOST,
    EBOKS,
    KARI,
    MAILBOXES,
    NOW,
    OLA,
    in_time,
    refusal_of,
    some_persons,
    together,
    write,
)


def encoded_persons(database: psycopg.Connection) -> dict[PersonIdentifier, bytes | None]:
    return dict(database.execute("SELECT identifier, encoded FROM person").fetchall())


def assert_none_is_stale(store: Store, database: psycopg.Connection) -> None:
    encoded = {identifier: found for identifier, found in encoded_persons(database).items() if found}
    plain = store.read(lambda reader: reader.persons(list(encoded)), deadline=in_time())
    assert encoded == {identifier: encode_person(person) for identifier, person in plain.items()}


def assert_all_are_encoded(store: Store, database: psycopg.Connection) -> None:
    assert None not in encoded_persons(database).values()
    assert_none_is_stale(store, database)


def encode_all(store: Store) -> None:
    while encode_some(store, in_time()):
        pass


def forget(database: psycopg.Connection) -> None:
    database.execute("UPDATE person SET encoded = NULL")


def test_any_person_of_a_register_from_before_is_encoded_and_nothing_else_changes(
    store: Store, database: psycopg.Connection
) -> None:
    chance = random.Random(0)
    load_persons(
        store, [_random_person(identifier, chance) for identifier in some_persons(600)], deadline=in_time()
    )
    encoded = encoded_persons(database)
    forget(database)
    others = "SELECT to_jsonb(person) - 'encoded' FROM person ORDER BY id"
    before = database.execute(others).fetchall()

    encode_all(store)
    assert encoded_persons(database) == encoded
    assert_all_are_encoded(store, database)
    assert database.execute(others).fetchall() == before


def test_what_code_from_before_changes_is_encoded_no_more_and_then_anew(
    store: Store, database: psycopg.Connection
) -> None:
    for identifier in (OLA, KARI):
        enter(store, identifier, {EMAIL: ADDRESS})

    write_as_code_from_before(database, OLA, OTHER_ADDRESS)
    encoded = encoded_persons(database)
    assert encoded[OLA] is None
    assert encoded[KARI] is not None
    encode_all(store)
    assert_all_are_encoded(store, database)


def test_who_is_locked_is_waited_for_by_nobody_and_encoded_later(
    store: Store, database: psycopg.Connection
) -> None:
    for identifier in (OLA, KARI):
        enter(store, identifier, {EMAIL: ADDRESS})
    forget(database)

    def do(transaction: Transaction) -> None:
        transaction.person(OLA)
        encode_all(store)
        encoded = encoded_persons(database)
        assert encoded[OLA] is None
        assert encoded[KARI] is not None

    store.write(ADMINISTRATOR, do, deadline=in_time())
    encode_all(store)
    assert_all_are_encoded(store, database)


@pytest.mark.parametrize("by_code_from_before", [False, True])
def test_who_changes_while_being_encoded_waits_and_is_not_left_stale(
    store: Store, database: psycopg.Connection, database_url: str, by_code_from_before: bool
) -> None:
    enter(store, OLA, {EMAIL: ADDRESS})
    forget(database)

    def change() -> None:
        if by_code_from_before:
            with connect(database_url) as another:
                write_as_code_from_before(another, OLA, OTHER_ADDRESS)
        else:
            update(store, OLA, {EMAIL: OTHER_ADDRESS})

    changing = threading.Thread(target=change)

    def encode(person: Person) -> bytes:
        changing.start()
        wait_until(partial(somebody_waits_for_a_lock, database))
        return encode_person(person)

    def do(transaction: Transaction) -> int:
        return give_encoded(transaction.connection, encode, 1)

    assert store.write(ADMINISTRATOR, do, deadline=in_time()) == 1
    changing.join(timeout=10)
    assert (encoded_persons(database)[OLA] is None) == by_code_from_before
    assert_none_is_stale(store, database)


def test_two_who_encode_at_once_share_the_work(store: Store, database: psycopg.Connection) -> None:
    chance = random.Random(0)
    load_persons(
        store, [_random_person(identifier, chance) for identifier in some_persons(200)], deadline=in_time()
    )
    forget(database)
    counts: list[int] = []

    def do(transaction: Transaction) -> int:
        count = give_encoded(transaction.connection, encode_person, 50)
        counts.append(count)
        return count

    def encode() -> None:
        while store.write(ADMINISTRATOR, do, deadline=in_time()):
            pass

    together(encode, encode)
    assert sum(counts) == 200
    assert_all_are_encoded(store, database)


def test_the_job_encodes_until_it_is_ended(store: Store, database: psycopg.Connection) -> None:
    enter(store, OLA, {EMAIL: ADDRESS})
    forget(database)
    job = encode_persons(store)

    job.start()
    wait_until(lambda: encoded_persons(database)[OLA] is not None)
    job.end()

    assert_all_are_encoded(store, database)
    assert "encode-persons" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("seed", range(5))
def test_after_any_writes_and_jobs_no_encoded_person_is_stale(
    store: Store, database: psycopg.Connection, seed: int
) -> None:
    chance = random.Random(seed)
    everyone = some_persons(6)

    for _ in range(80):
        # Refused where the person is not as the step wants.
        refusal_of(partial(_do_something, store, database, chance, everyone))
        assert_none_is_stale(store, database)
    encode_all(store)
    recount_all(store)
    assert_all_are_encoded(store, database)


def _do_something(
    store: Store, database: psycopg.Connection, chance: random.Random, everyone: Sequence[PersonIdentifier]
) -> None:
    identifier, other = chance.sample(everyone, 2)
    values = {kind: chance.choice(some) for kind, some in VALUES.items() if chance.random() < 0.8}
    operator = chance.choice([DIGIPOST, EBOKS])
    verbs: list[Callable[[Person], Person]] = [
        lambda person: person.register(NOW, values, None),
        lambda person: person.update_contact(NOW, {**dict.fromkeys(ContactKind), **values}),
        lambda person: person.confirm_contact(NOW),
        lambda person: person.set_language(NOW, chance.choice(list(Language))),
        lambda person: person.reserve(NOW),
        lambda person: person.cancel_reservation(NOW),
        lambda person: person.create_mailbox(chance.choice(MAILBOXES)),
        lambda person: person.create_and_choose_mailbox(chance.choice(MAILBOXES)),
        lambda person: person.choose_mailbox(operator),
        lambda person: person.delete_mailbox(operator),
        lambda person: person.delete(chance.choice(list(DeletionReason))),
    ]
    steps: list[Callable[[], object]] = [
        partial(load_persons, store, [_random_person(identifier, chance)], deadline=in_time()),
        partial(replace_identifier, store, identifier, other),
        partial(write_as_code_from_before, database, identifier, values.get(EMAIL)),
        partial(recount, store, NOW, in_time()),
        partial(encode_some, store, in_time()),
        *(partial(write, store, identifier, verb) for verb in verbs),
    ]
    chance.choice(steps)()


def _random_person(identifier: PersonIdentifier, chance: random.Random) -> Person:
    if chance.random() < 0.1:
        reason = chance.choice([None, *DeletionReason])
        return Person(identifier=identifier, status=Status.DELETED, deletion_reason=reason)
    boxes = tuple(replace(box, certificate=chance.choice([None, b"DER"])) for box in MAILBOXES)
    mailboxes = chance.choice([(), boxes[:1], boxes])
    return Person(
        identifier=identifier,
        status=Status.ACTIVE,
        reserved=chance.random() < 0.3,
        reservation_time=chance.choice([None, _moment(chance)]),
        language=chance.choice([None, *Language]),
        language_updated=chance.choice([None, _moment(chance)]),
        contacts={
            kind: ContactPoint(
                value=chance.choice(some),
                updated=_moment(chance),
                confirmed=chance.choice([None, _moment(chance)]),
                validated=chance.choice([None, _moment(chance)]),
            )
            for kind, some in VALUES.items()
            if chance.random() < 0.8
        },
        mailboxes=mailboxes,
        chosen=chance.choice([None, *(box.operator for box in mailboxes)]),
    )


def _moment(chance: random.Random) -> datetime:
    return NOW - timedelta(microseconds=chance.randrange(10**15))
