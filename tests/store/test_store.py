"""The store's two doors: deadlines, retries, and what the database itself forbids."""

import time
from collections.abc import Callable
from functools import partial
from typing import NoReturn

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import text

from server.domain.change import Change
from server.domain.contact import ContactKind
from server.domain.errors import Reason
from server.domain.identifiers import PersonIdentifier
from server.encoded_person import encode_person
from server.store.store import Store
from server.store.transaction import Answer, Reader, Transaction
from tests.store import steps
from tests.store.steps import (
    ADMINISTRATOR,
    DIGIPOST,
    EBOKS,
    KARI,
    NOW,
    OLA,
    choose,
    in_time,
    person_of,
    refusal_of,
    register,
    write,
)

SOON = 0.3
CUT_ALL = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE application_name = 'krr' AND datname = %s
"""


def _name_of(database: psycopg.Connection) -> str:
    [name] = database.execute("SELECT current_database()").fetchone() or [""]
    return str(name)


def _run(sql: str) -> Callable[[Reader], None]:
    def do(reader: Reader) -> None:
        reader.connection.execute(text(sql))

    return do


def _end_backend(database: psycopg.Connection, reader: Reader) -> None:
    [backend] = reader.connection.execute(text("SELECT pg_backend_pid()")).one()
    database.execute("SELECT pg_terminate_backend(%s, 5000)", (backend,))


def test_a_write_that_takes_too_long_ends_at_its_deadline_and_leaves_nothing(store: Store) -> None:
    register(store, OLA)

    def do(transaction: Transaction) -> None:
        before = transaction.person(OLA)
        transaction.record([Change(before, before.reserve(NOW))], NOW)
        transaction.connection.execute(text("SELECT pg_sleep(5)"))

    started = time.monotonic()
    reason = refusal_of(lambda: store.write(ADMINISTRATOR, do, deadline=started + SOON))
    assert reason is Reason.DEADLINE
    assert time.monotonic() - started < 3
    assert not person_of(store, OLA).reserved


def test_a_write_waits_for_the_lock_on_a_person_no_longer_than_its_deadline(store: Store) -> None:
    register(store, OLA)
    reasons: list[Reason | None] = []

    def do(transaction: Transaction) -> None:
        transaction.person(OLA)
        wait = partial(store.write, ADMINISTRATOR, lambda other: other.person(OLA))
        reasons.append(refusal_of(lambda: wait(deadline=time.monotonic() + SOON)))

    store.write(ADMINISTRATOR, do, deadline=in_time())
    assert reasons == [Reason.DEADLINE]


def test_after_the_deadline_nothing_is_tried(store: Store) -> None:
    def do(_: Reader) -> NoReturn:
        raise AssertionError

    assert refusal_of(lambda: store.write(ADMINISTRATOR, do, deadline=time.monotonic())) is Reason.DEADLINE
    assert refusal_of(lambda: store.read(do, deadline=time.monotonic())) is Reason.DEADLINE


def test_the_deadline_of_one_write_does_not_hang_on_to_its_connection(database_url: str) -> None:
    store = Store(database_url, encode_person, connections=1, require_durable=False)
    limits: list[str] = []

    def do(reader: Reader) -> None:
        limits.append(reader.connection.execute(text("SHOW statement_timeout")).scalar_one())

    store.write(ADMINISTRATOR, do, deadline=time.monotonic() + 1)
    store.read(do, deadline=in_time())
    store.close()
    assert limits[0].endswith("ms")
    assert limits[1] == "2s"


def test_a_write_whose_connection_is_cut_is_done_again_and_has_one_effect(
    store: Store, database: psycopg.Connection
) -> None:
    register(store, OLA)
    runs: list[int] = []

    def do(transaction: Transaction) -> Answer:
        before = transaction.person(OLA)
        [number] = transaction.record([Change(before, before.reserve(NOW))], NOW)
        runs.append(number)
        if len(runs) == 1:
            _end_backend(database, transaction)
        return Answer("DONE", number)

    answer = store.write(ADMINISTRATOR, do, deadline=in_time(), request=steps.request())

    assert runs == [2, 2]
    assert answer == Answer("DONE", 2)
    changes = database.execute("SELECT field FROM history WHERE change_number > 1").fetchall()
    assert changes == [("reserved",)]


def test_a_read_whose_connection_is_cut_is_done_again(store: Store, database: psycopg.Connection) -> None:
    register(store, OLA)
    runs: list[int] = []

    def do(reader: Reader) -> int:
        runs.append(len(runs))
        if len(runs) == 1:
            _end_backend(database, reader)
        return reader.last_change_number()

    assert store.read(do, deadline=in_time()) == 1
    assert len(runs) == 2


def test_all_connections_cut_at_once_are_replaced(store: Store, database: psycopg.Connection) -> None:
    register(store, OLA)
    reads = [partial(person_of, store, OLA)] * 8
    before = steps.together(*reads)
    database.execute(CUT_ALL, (_name_of(database),))
    assert steps.together(*reads) == before


def test_a_database_that_takes_no_connections_is_called_unavailable(
    store: Store, database: psycopg.Connection, postgresql: psycopg.Connection
) -> None:
    register(store, OLA)
    reserve = partial(write, store, OLA, lambda person: person.reserve(NOW))
    name = _name_of(database)
    postgresql.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
    postgresql.execute(CUT_ALL, (name,))

    assert refusal_of(reserve) is Reason.DATABASE_UNAVAILABLE
    assert refusal_of(partial(person_of, store, OLA)) is Reason.DATABASE_UNAVAILABLE

    postgresql.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())
    assert reserve().change_number == 2


def test_two_writes_that_lock_each_others_persons_are_both_done(store: Store) -> None:
    for identifier in (OLA, KARI):
        register(store, identifier)

    def write_both(email: str, *identifiers: PersonIdentifier) -> None:
        def do(transaction: Transaction) -> None:
            for identifier in identifiers:
                transaction.person(identifier)
                time.sleep(0.1)
            for identifier in identifiers:
                before = transaction.person(identifier)
                after = before.update_contact(NOW, {ContactKind.EMAIL: email})
                transaction.record([Change(before, after)], NOW)

        store.write(ADMINISTRATOR, do, deadline=in_time())

    steps.together(
        partial(write_both, "a@example.com", OLA, KARI), partial(write_both, "b@example.com", KARI, OLA)
    )

    assert store.read(lambda reader: reader.last_change_number(), deadline=in_time()) == 6
    emails = {person_of(store, each).contacts[ContactKind.EMAIL].value for each in (OLA, KARI)}
    assert emails in ({"a@example.com"}, {"b@example.com"}), "one came after the other"


def test_a_write_that_always_conflicts_gives_up_with_a_reason(store: Store) -> None:
    runs: list[int] = []

    def do(transaction: Transaction) -> None:
        runs.append(len(runs))
        _run("DO $$ BEGIN RAISE serialization_failure; END $$")(transaction)

    assert refusal_of(lambda: store.write(ADMINISTRATOR, do, deadline=in_time())) is Reason.CONFLICT
    assert 1 < len(runs) < 10


def test_a_fault_in_a_statement_is_no_refusal_and_is_not_tried_again(store: Store) -> None:
    runs: list[int] = []

    def do(transaction: Transaction) -> None:
        runs.append(len(runs))
        _run("SELECT 1 / 0")(transaction)

    with pytest.raises(Exception, match="division by zero") as caught:
        store.write(ADMINISTRATOR, do, deadline=in_time())
    assert type(caught.value).__module__.startswith("sqlalchemy")
    assert len(runs) == 1


def test_the_database_itself_allows_one_chosen_mailbox_only(
    store: Store, database: psycopg.Connection
) -> None:
    register(store, OLA)
    choose(store, OLA, DIGIPOST)
    with pytest.raises(errors.UniqueViolation, match="mailbox_one_chosen_idx"):
        database.execute("UPDATE mailbox SET chosen = true WHERE operator = %s", (EBOKS,))
    assert person_of(store, OLA).chosen == DIGIPOST


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE person SET status = 'DELETED'", "person_tombstone_check"),
        ("UPDATE person SET status = 'NOT_REGISTERED'", "person_status_check"),
        ("UPDATE person SET identifier = '1234567890'", "person_identifier_check"),
        ("UPDATE person SET email_updated_time = NULL", "person_email_updated_check"),
        ("UPDATE person SET mobile = NULL", "person_mobile_updated_check"),
        ("INSERT INTO register VALUES (2, gen_random_uuid(), '', 0)", "register_one_row_check"),
    ],
)
def test_the_database_itself_refuses_what_no_person_can_be(
    store: Store, database: psycopg.Connection, statement: str, constraint: str
) -> None:
    register(store, OLA)
    with pytest.raises(errors.CheckViolation, match=constraint):
        database.execute(statement.encode())


def test_the_operators_and_the_epoch_are_known_from_the_start(
    store: Store, database: psycopg.Connection
) -> None:
    assert store.operators == {DIGIPOST, EBOKS}
    assert database.execute("SELECT epoch FROM register").fetchone() == (store.epoch,)
