"""The shared flag: whether a value stands on other persons too, as the recount leaves it."""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import psycopg
import pytest
from structlog.testing import capture_logs

from server.domain.contact import ContactKind, ContactPoint, comparable
from server.domain.errors import Reason
from server.domain.identifiers import PersonIdentifier
from server.domain.person import Change, DeletionReason, Person, Status
from server.jobs.recount_shared_contact import RecountSharedContact, recount
from server.store import shared_contact
from server.store.store import Store
from server.store.transaction import Transaction
from tests.people import NIELS as NIELS_IDENTIFIER
from tests.store.steps import (
    A_DAY,
    ADMINISTRATOR,
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

EMAIL = ContactKind.EMAIL
NIELS = PersonIdentifier(NIELS_IDENTIFIER)
ADDRESS, OTHER_ADDRESS, NUMBER = "ola@example.com", "kari@example.com", "+4791234567"
VALUES: Mapping[ContactKind, Sequence[str]] = {
    EMAIL: (ADDRESS, "Ola@example.com", OTHER_ADDRESS, "åse@example.com", "Åse@example.com"),
    MOBILE: (NUMBER, "+4741234567"),
}


def enter(store: Store, identifier: PersonIdentifier, values: Mapping[ContactKind, str]) -> None:
    write(store, identifier, lambda person: person.register(NOW, values, None))


def update(store: Store, identifier: PersonIdentifier, values: Mapping[ContactKind, str | None]) -> None:
    write(store, identifier, lambda person: person.update_contact(NOW, values))


def delete(store: Store, identifier: PersonIdentifier, reason: DeletionReason) -> None:
    write(store, identifier, lambda person: person.delete(reason))


def load(store: Store, identifiers: Sequence[PersonIdentifier], values: Mapping[ContactKind, str]) -> None:
    contacts = {kind: ContactPoint(value=value, updated=NOW) for kind, value in values.items()}
    persons = [Person(identifier=each, status=Status.ACTIVE, contacts=contacts) for each in identifiers]
    store.write(ADMINISTRATOR, lambda transaction: transaction.load(persons), deadline=in_time())


def replace_identifier(store: Store, old: PersonIdentifier, new: PersonIdentifier) -> None:
    def do(transaction: Transaction) -> None:
        persons = {identifier: transaction.person(identifier) for identifier in sorted((old, new))}
        moved = Change(persons[new], persons[new].take_over(persons[old]), takes_over=old)
        tombstone = Change(persons[old], persons[old].delete(DeletionReason.NEW_IDENTITY))
        transaction.record([moved, tombstone], NOW)

    store.write(ADMINISTRATOR, do, deadline=in_time())


def write_as_code_from_before(
    database: psycopg.Connection, identifier: PersonIdentifier, email: str | None
) -> None:
    """Change the e-mail address without a thought of digests and notes."""
    database.execute(
        """WITH next AS (UPDATE register SET last_change_number = last_change_number + 1
                         RETURNING last_change_number)
           UPDATE person SET email = %s, email_updated_time = %s, change_number = last_change_number
           FROM next WHERE identifier = %s AND status = 'ACTIVE'""",
        (email, NOW if email else None, identifier),
    )


def recount_all(store: Store) -> int:
    """Recount until there is nothing more to do; returns in how many steps."""
    done = 0
    while recount(store, NOW, in_time()):
        done += 1
        assert done < 500, "the recount makes work for itself"
    return done


def shared(store: Store, *identifiers: PersonIdentifier, kind: ContactKind = EMAIL) -> list[bool]:
    return [person_of(store, each).contacts[kind].shared for each in identifiers]


def history(database: psycopg.Connection, identifier: PersonIdentifier) -> list[tuple[str, str]]:
    """What changed and by which kind of caller, in order."""
    return database.execute(
        """SELECT field, caller_kind FROM history JOIN person ON person.id = person_id
           WHERE identifier = %s ORDER BY history.change_number, field""",
        (identifier,),
    ).fetchall()


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def somebody_waits_for_a_lock(database: psycopg.Connection) -> bool:
    waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(database.execute(waiting).fetchall())


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
    assert history(database, OLA)[-1] == ("mobile_shared", "register")
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
def test_a_large_group_is_done_in_several_transactions(store: Store, full_size: bool) -> None:
    everyone = some_persons(3000 if full_size else 300)
    load(store, everyone, {EMAIL: ADDRESS})

    recount(store, NOW, in_time())
    first = sum(shared(store, *everyone))
    assert 0 < first < len(everyone)
    assert recount_all(store) > 1
    assert all(shared(store, *everyone))


def test_what_code_from_before_wrote_is_found_and_counted(store: Store, database: psycopg.Connection) -> None:
    enter(store, OLA, {EMAIL: ADDRESS})
    enter(store, KARI, {EMAIL: OTHER_ADDRESS})
    recount_all(store)

    write_as_code_from_before(database, KARI, ADDRESS)
    recount_all(store)
    assert shared(store, OLA, KARI) == [True, True]


def test_a_value_without_digest_that_is_being_changed_waits_for_nobody_and_is_not_overwritten(
    store: Store, database: psycopg.Connection
) -> None:
    enter(store, OLA, {EMAIL: ADDRESS})
    enter(store, KARI, {EMAIL: OTHER_ADDRESS})
    recount_all(store)
    write_as_code_from_before(database, KARI, ADDRESS)

    def do(transaction: Transaction) -> None:
        before = transaction.person(KARI)
        # One that waited would not be done by then.
        recount(store, NOW, time.monotonic() + 2)
        after = before.update_contact(NOW, {EMAIL: "niels@example.com"})
        transaction.record([Change(before, after)], NOW)

    store.write(ADMINISTRATOR, do, deadline=in_time())
    recount_all(store)
    assert person_of(store, KARI).contacts[EMAIL].value == "niels@example.com"
    assert shared(store, OLA, KARI) == [False, False]


def test_who_changes_while_the_recount_waits_is_counted_as_changed(
    store: Store, database: psycopg.Connection
) -> None:
    enter(store, OLA, {EMAIL: ADDRESS})
    enter(store, KARI, {EMAIL: ADDRESS})
    counting = threading.Thread(target=recount_all, args=(store,))

    def do(transaction: Transaction) -> None:
        before = transaction.person(KARI)
        counting.start()
        wait_until(partial(somebody_waits_for_a_lock, database))
        after = before.update_contact(NOW, {EMAIL: OTHER_ADDRESS})
        transaction.record([Change(before, after)], NOW)

    store.write(ADMINISTRATOR, do, deadline=in_time())
    counting.join(timeout=10)
    assert shared(store, OLA, KARI) == [False, False]
    assert ("email_shared", "register") not in history(database, OLA) + history(database, KARI)


def test_a_recount_that_is_cut_off_leaves_its_work_to_the_next(
    store: Store, database: psycopg.Connection
) -> None:
    enter(store, OLA, {EMAIL: ADDRESS})
    enter(store, KARI, {EMAIL: ADDRESS})
    cut_off: list[Reason | None] = []

    def do(transaction: Transaction) -> None:
        transaction.person(KARI)
        cut_off.append(refusal_of(partial(recount, store, NOW, time.monotonic() + 0.3)))

    store.write(ADMINISTRATOR, do, deadline=in_time())
    assert cut_off == [Reason.DEADLINE]
    assert shared(store, OLA, KARI) == [False, False]
    recount_all(store)
    assert shared(store, OLA, KARI) == [True, True]


def test_while_one_counts_another_leaves_it_to_that_one(store: Store) -> None:
    enter(store, OLA, {EMAIL: ADDRESS})
    enter(store, KARI, {EMAIL: ADDRESS})

    def do(transaction: Transaction) -> None:
        assert shared_contact.only_here(transaction.connection)
        assert not recount(store, NOW, in_time())

    store.write(ADMINISTRATOR, do, deadline=in_time())
    assert shared(store, OLA, KARI) == [False, False]
    assert recount(store, NOW, in_time())


def test_the_job_goes_on_after_a_fault_and_ends_when_told(store: Store, database: psycopg.Connection) -> None:
    enter(store, OLA, {EMAIL: ADDRESS})
    enter(store, KARI, {EMAIL: ADDRESS})
    database.execute("ALTER TABLE shared_recount RENAME TO gone")
    job = RecountSharedContact(store, lambda: NOW)

    with capture_logs() as told:
        job.start()
        wait_until(lambda: bool(told))
    database.execute("ALTER TABLE gone RENAME TO shared_recount")
    wait_until(lambda: shared(store, OLA, KARI) == [True, True])
    job.end()

    assert told[0] == {
        "event": "not_recounted",
        "exception": "ProgrammingError",
        "log_level": "warning",
    }
    assert "recount-shared-contact" not in {thread.name for thread in threading.enumerate()}


def test_who_is_left_alone_by_a_change_of_code_from_before_shares_no_more(
    store: Store, database: psycopg.Connection
) -> None:
    for identifier in (OLA, KARI):
        enter(store, identifier, {EMAIL: ADDRESS})
    recount_all(store)

    write_as_code_from_before(database, KARI, None)
    recount_all(store)
    assert shared(store, OLA) == [False]


def test_a_value_without_digest_is_counted_also_where_its_person_was_changed_meanwhile(
    store: Store, database: psycopg.Connection
) -> None:
    enter(store, OLA, {EMAIL: ADDRESS})
    enter(store, KARI, {EMAIL: OTHER_ADDRESS})
    recount_all(store)

    write_as_code_from_before(database, KARI, ADDRESS)
    write(store, KARI, lambda person: person.confirm_contact(NOW + A_DAY))
    recount_all(store)
    assert shared(store, OLA, KARI) == [True, True]
