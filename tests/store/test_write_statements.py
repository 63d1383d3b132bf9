"""Statements that a connection has prepared: what goes in comes out, and they stay prepared."""

import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url, text

from server.domain.change import Change
from server.domain.errors import Reason, Refusal
from server.domain.person import Person
from server.encoded_person import encode_person
from server.store import tables
from server.store.prepared import PreparedStatements, Statement
from server.store.store import Store
from server.store.transaction import Transaction
from server.store.write_statements import CHANGE_PERSON, ENTER_PERSON
from tests.store import steps
from tests.store.steps import ADMINISTRATOR, DIGIPOST, EBOKS, NOW, OLA, in_time, refusal_of, register, write

GIVEN_BACK = Statement(
    "given_back",
    """
    SELECT %(text)s::text AS text, %(bytes)s::bytea AS bytes, %(time)s::timestamptz AS time,
        %(flag)s::boolean AS flag, %(number)s::bigint AS number, %(id)s::uuid AS id,
        %(many)s::bytea[] AS many, %(text)s = '' AS empty
    """,
)
VALUES: dict[str, Any] = {
    "text": 'Åse "O\'Hara" \\ {a,b} %s $1 \u2603',
    "bytes": b"\x00\\\xff'",
    "time": datetime(2026, 11, 22, 12, 0, 0, 1, tzinfo=UTC),
    "flag": False,
    "number": 2**40,
    "id": uuid.UUID(int=1),
    "many": [b"", b"\x00,\\"],
}


def _reserve(person: Person) -> Person:
    return person.reserve(NOW)


@pytest.fixture
def prepared(database_url: str) -> Any:
    url = make_url(database_url)
    parameters: dict[str, Any] = {"host": url.query["host"], "user": url.username, "dbname": url.database}
    with psycopg.connect(**parameters, autocommit=True, options="-c TimeZone=UTC") as connection:
        yield PreparedStatements(connection)


def test_values_of_every_kind_and_nulls_come_back_as_given(prepared: PreparedStatements) -> None:
    assert prepared.run(GIVEN_BACK, **VALUES) == [{**VALUES, "empty": False}]
    nothing = dict.fromkeys(VALUES)
    assert prepared.run(GIVEN_BACK, **nothing) == [{**nothing, "empty": None}]


def test_a_fault_in_a_prepared_statement_is_raised_and_the_connection_goes_on(
    prepared: PreparedStatements,
) -> None:
    divided = Statement("divided", "SELECT 1 / %(number)s::bigint AS one")
    with pytest.raises(psycopg.errors.DivisionByZero):
        prepared.run(divided, number=0)
    with pytest.raises(psycopg.errors.UndefinedTable):
        prepared.run(Statement("nowhere", "SELECT 1 FROM nowhere"))
    assert prepared.run(divided, number=1) == [{"one": 1}]


def test_each_column_of_a_person_is_written_by_a_change_and_by_an_entry() -> None:
    from_the_counter = {"id", "change_number"}
    of_history = {"now", "fields", "caller_kind"}
    for statement in (CHANGE_PERSON, ENTER_PERSON):
        assert set(statement.parameters) == {*tables.person.c.keys(), *of_history} - from_the_counter


def test_what_a_connection_has_prepared_outlives_a_write_that_was_rolled_back(database_url: str) -> None:
    store = Store(database_url, encode_person, connections=1, require_durable=False)
    register(store, OLA)

    def refused(transaction: Transaction) -> None:
        # So often that psycopg prepares it, and has something to forget.
        for _ in range(10):
            transaction.connection.execute(text("SELECT 1"))
        raise Refusal(Reason.RESERVED)

    assert refusal_of(partial(store.write, ADMINISTRATOR, refused, deadline=in_time())) is Reason.RESERVED

    assert write(store, OLA, _reserve).change_number == 2
    store.close()


def test_whoever_waited_for_a_person_sees_the_mailboxes_that_the_other_left(store: Store) -> None:
    register(store, OLA)
    waiting: list[Future[Person]] = []

    with ThreadPoolExecutor() as threads:

        def delete_one(transaction: Transaction) -> None:
            before = transaction.person(OLA)
            read = partial(store.write, ADMINISTRATOR, lambda other: other.person(OLA), deadline=in_time())
            waiting.append(threads.submit(read))
            with pytest.raises(TimeoutError):
                waiting[0].result(timeout=0.2)
            transaction.record([Change(before, before.delete_mailbox(EBOKS))], NOW)

        store.write(ADMINISTRATOR, delete_one, deadline=in_time())
        seen = waiting[0].result()

    assert seen.change_number == 2
    assert [box.operator for box in seen.mailboxes] == [DIGIPOST]


def test_writes_whose_connections_are_all_cut_at_once_are_done(
    store: Store, database: psycopg.Connection
) -> None:
    persons = steps.some_persons(8)
    for each in persons:
        register(store, each)
    steps.together(*[partial(write, store, each, _reserve) for each in persons])
    database.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE application_name = 'krr' AND datname = current_database()"
    )

    answers = steps.together(
        *[partial(write, store, each, lambda person: person.cancel_reservation(NOW)) for each in persons]
    )

    assert sorted(answer.change_number for answer in answers) == list(range(17, 25))
