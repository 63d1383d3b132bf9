"""The recount of shared contact info beside other writers, older code and itself."""

import threading
import time
from functools import partial

import psycopg
from structlog.testing import capture_logs

from server.domain.change import Change
from server.domain.errors import Reason
from server.jobs.recount_shared_contact import recount, recount_shared_contact
from server.store import shared_contact
from server.store.store import Store
from server.store.transaction import Transaction
from tests.store.sharing import (
    ADDRESS,
    EMAIL,
    NUMBER,
    OTHER_ADDRESS,
    enter,
    history,
    recount_all,
    shared,
    somebody_waits_for_a_lock,
    update,
    wait_until,
    write_as_code_from_before,
)
from tests.store.steps import (
    A_DAY,
    ADMINISTRATOR,
    KARI,
    MOBILE,
    NOW,
    OLA,
    in_time,
    person_of,
    refusal_of,
    write,
)


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


def test_the_recount_locks_in_the_order_of_identifiers_so_that_nobody_who_does_so_too_meets_a_deadlock(
    store: Store, database: psycopg.Connection
) -> None:
    # Row ids in the other order.
    assert KARI < OLA
    for identifier in (OLA, KARI):
        enter(store, identifier, {EMAIL: ADDRESS})
    counting = threading.Thread(target=recount_all, args=(store,))

    def do(transaction: Transaction) -> None:
        transaction.person(KARI)
        counting.start()
        wait_until(partial(somebody_waits_for_a_lock, database))
        # Fails where it is locked.
        database.execute("SELECT FROM person WHERE identifier = %s FOR UPDATE NOWAIT", (OLA,))

    store.write(ADMINISTRATOR, do, deadline=in_time())
    counting.join(timeout=10)
    assert shared(store, OLA, KARI) == [True, True]


def test_the_flag_of_a_value_without_digest_stays_while_that_of_the_other_value_is_corrected(
    store: Store, database: psycopg.Connection
) -> None:
    for identifier in (OLA, KARI):
        enter(store, identifier, {EMAIL: ADDRESS})
    recount_all(store)
    write_as_code_from_before(database, KARI, "Kari@example.com")
    for identifier in (OLA, KARI):
        update(store, identifier, {MOBILE: NUMBER})
    counting = threading.Thread(target=recount, args=(store, NOW, in_time()))

    def do(transaction: Transaction) -> None:
        # Gets no digest while it is locked.
        transaction.person(KARI)
        counting.start()
        wait_until(partial(somebody_waits_for_a_lock, database))

    store.write(ADMINISTRATOR, do, deadline=in_time())
    counting.join(timeout=10)
    assert shared(store, KARI, kind=MOBILE) == shared(store, KARI) == [True]
    recount_all(store)
    assert shared(store, OLA, KARI) == [False, False]


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
    recount(store, NOW, in_time())
    assert shared(store, OLA, KARI) == [True, True]


def test_the_job_goes_on_after_a_fault_and_ends_when_told(store: Store, database: psycopg.Connection) -> None:
    enter(store, OLA, {EMAIL: ADDRESS})
    enter(store, KARI, {EMAIL: ADDRESS})
    database.execute("ALTER TABLE shared_recount RENAME TO gone")
    job = recount_shared_contact(store, lambda: NOW)

    with capture_logs() as told:
        job.start()
        wait_until(lambda: bool(told))
    database.execute("ALTER TABLE gone RENAME TO shared_recount")
    wait_until(lambda: shared(store, OLA, KARI) == [True, True])
    job.end()

    assert told[0] == {
        "event": "step_failed",
        "job": "recount-shared-contact",
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
