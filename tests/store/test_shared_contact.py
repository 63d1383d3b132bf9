"""The shared flag: whether a value stands on other persons too, as the recount leaves it."""

import random
from collections.abc import Sequence
from functools import partial

import psycopg
import pytest

from server.domain.contact import ContactKind, comparable
from server.domain.identifiers import PersonIdentifier
from server.domain.person import DeletionReason
from server.jobs.recount_shared_contact import recount
from server.store.store import Store
from tests.store.sharing import (
    ADDRESS,
    EMAIL,
    NIELS,
    NUMBER,
    OTHER_ADDRESS,
    VALUES,
    delete,
    enter,
    history,
    load,
    recount_all,
    replace_identifier,
    shared,
    update,
    write_as_code_from_before,
)
from tests.store.steps import (
    KARI,
    MOBILE,
    NOW,
    OLA,
    in_time,
    messages,
    person_of,
    refusal_of,
    some_persons,
    write,
)


def test_a_value_on_one_person_is_not_shared_and_on_two_it_is_on_both(store: Store) -> None:
    enter(store, OLA, {EMAIL: ADDRESS})
    recount_all(store)
    assert shared(store, OLA) == [False]

    enter(store, KARI, {EMAIL: ADDRESS})
    recount_all(store)
    assert shared(store, OLA, KARI) == [True, True]


def test_who_is_left_alone_with_a_value_shares_it_no_more(store: Store) -> None:
    for identifier in (OLA, KARI, NIELS):
        enter(store, identifier, {EMAIL: ADDRESS, MOBILE: NUMBER})
    recount_all(store)

    update(store, OLA, {EMAIL: OTHER_ADDRESS, MOBILE: None})
    recount_all(store)
    assert shared(store, OLA, KARI, NIELS) == [False, True, True]
    assert shared(store, KARI, NIELS, kind=MOBILE) == [True, True]

    delete(store, KARI, DeletionReason.OWN_CHOICE)
    recount_all(store)
    assert shared(store, NIELS) == shared(store, NIELS, kind=MOBILE) == [False]


def test_email_and_mobile_are_counted_apart(store: Store) -> None:
    enter(store, OLA, {EMAIL: ADDRESS, MOBILE: NUMBER})
    enter(store, KARI, {EMAIL: OTHER_ADDRESS, MOBILE: NUMBER})
    recount_all(store)
    assert shared(store, OLA, KARI) == [False, False]
    assert shared(store, OLA, KARI, kind=MOBILE) == [True, True]


def test_email_addresses_are_the_same_without_regard_to_case(store: Store) -> None:
    enter(store, OLA, {EMAIL: "Ola.Nordmann@example.com"})
    enter(store, KARI, {EMAIL: "ola.nordmann@example.com"})
    recount_all(store)
    assert shared(store, OLA, KARI) == [True, True]

    update(store, KARI, {EMAIL: "OLA.NORDMANN@example.com"})
    recount_all(store)
    assert shared(store, OLA, KARI) == [True, True]


def test_a_reserved_person_counts_and_a_tombstone_does_not(store: Store) -> None:
    for identifier in (OLA, KARI):
        enter(store, identifier, {EMAIL: ADDRESS})
    write(store, KARI, lambda person: person.reserve(NOW))
    recount_all(store)
    assert shared(store, OLA, KARI) == [True, True]

    # One whose identity ended is no longer ACTIVE, reserved or not.
    delete(store, KARI, DeletionReason.DEAD)
    recount_all(store)
    assert shared(store, OLA) == [False]


def test_a_value_that_moves_to_a_new_identifier_stays_as_shared_as_it_was(store: Store) -> None:
    enter(store, OLA, {EMAIL: ADDRESS, MOBILE: NUMBER})
    enter(store, KARI, {EMAIL: ADDRESS})
    recount_all(store)
    replace_identifier(store, OLA, NIELS)
    recount_all(store)
    assert shared(store, NIELS, KARI) == [True, True]
    assert shared(store, NIELS, kind=MOBILE) == [False]


def test_the_register_itself_changes_the_flag_with_a_number_and_a_history_and_tells_nobody_else(
    store: Store, database: psycopg.Connection
) -> None:
    enter(store, OLA, {EMAIL: ADDRESS, MOBILE: NUMBER})
    enter(store, KARI, {EMAIL: OTHER_ADDRESS, MOBILE: NUMBER})
    before = person_of(store, OLA)
    recount_all(store)

    ola, kari = person_of(store, OLA), person_of(store, KARI)
    assert {ola.change_number, kari.change_number} == {3, 4}
    by_register = [field for field, caller in history(database, OLA) if caller == "register"]
    assert by_register == ["mobile_shared"]
    assert ola.contacts == before.contacts
    assert not messages(store)
    assert not database.execute("SELECT FROM delivery").fetchall()
    assert not database.execute("SELECT FROM shared_recount").fetchall()


def test_a_recount_that_finds_all_as_it_was_changes_nothing(
    store: Store, database: psycopg.Connection
) -> None:
    enter(store, OLA, {EMAIL: ADDRESS})
    enter(store, KARI, {EMAIL: OTHER_ADDRESS})
    numbers = [person_of(store, each).change_number for each in (OLA, KARI)]
    recount_all(store)
    assert [person_of(store, each).change_number for each in (OLA, KARI)] == numbers
    assert [field for field, _ in history(database, OLA)] == ["email", "status"]


@pytest.mark.parametrize("seed", range(5))
def test_after_any_changes_each_flag_is_what_counting_everyone_gives(
    store: Store, database: psycopg.Connection, seed: int
) -> None:
    chance = random.Random(seed)
    everyone = some_persons(6)

    for _ in range(80):
        # Refused where the person is not as the step wants.
        refusal_of(partial(_do_something, store, database, chance, everyone))
        if chance.random() < 0.1:
            recount_all(store)
            _assert_all_flags_right(store, everyone)
    recount_all(store)
    _assert_all_flags_right(store, everyone)


def _do_something(
    store: Store,
    database: psycopg.Connection,
    chance: random.Random,
    everyone: Sequence[PersonIdentifier],
) -> None:
    identifier, other = chance.sample(everyone, 2)
    values = {kind: chance.choice(some) for kind, some in VALUES.items() if chance.random() < 0.8}
    match chance.randrange(9):
        case 0:
            enter(store, identifier, values)
        case 1:
            load(store, [identifier], values)
        case 2:
            update(store, identifier, values)
        case 3:
            update(store, identifier, {chance.choice(list(ContactKind)): None})
        case 4:
            write(store, identifier, lambda person: person.reserve(NOW))
        case 5:
            delete(store, identifier, chance.choice(list(DeletionReason)))
        case 6:
            replace_identifier(store, identifier, other)
        case 7:
            write_as_code_from_before(database, identifier, values.get(EMAIL))
        case 8:
            recount(store, NOW, in_time())


def _assert_all_flags_right(store: Store, everyone: Sequence[PersonIdentifier]) -> None:
    persons = store.read(lambda reader: reader.persons(everyone), deadline=in_time()).values()
    for kind in ContactKind:
        found = [
            (comparable(kind, point.value), point.shared)
            for person in persons
            if (point := person.contacts.get(kind))
        ]
        values = [value for value, _ in found]
        assert found == [(value, values.count(value) > 1) for value in values]


@pytest.mark.full_size_figures
def test_a_large_group_is_done_in_several_transactions(
    store: Store, database: psycopg.Connection, full_size: bool
) -> None:
    everyone = some_persons(6000 if full_size else 600)
    load(store, everyone, {EMAIL: ADDRESS})

    recount(store, NOW, in_time())
    first = _flagged(database)
    assert 0 < first < len(everyone)
    assert recount_all(store) >= len(everyone) // first
    assert _flagged(database) == len(everyone)
    # Each with a number of its own, in a row without gaps.
    numbers = "SELECT min(change_number), max(change_number), count(DISTINCT change_number) FROM person"
    assert database.execute(numbers).fetchall() == [(len(everyone) + 1, 2 * len(everyone), len(everyone))]


def _flagged(database: psycopg.Connection) -> int:
    [(count,)] = database.execute("SELECT count(*) FROM person WHERE email_shared").fetchall()
    return int(count)


def test_who_shares_both_values_gets_one_change_number_and_an_entry_for_each(
    store: Store, database: psycopg.Connection
) -> None:
    for identifier in (OLA, KARI):
        enter(store, identifier, {EMAIL: ADDRESS, MOBILE: NUMBER})
    recount_all(store)

    assert {person_of(store, each).change_number for each in (OLA, KARI)} == {3, 4}
    for identifier in (OLA, KARI):
        assert history(database, identifier)[-2:] == [
            ("email_shared", "register"),
            ("mobile_shared", "register"),
        ]
