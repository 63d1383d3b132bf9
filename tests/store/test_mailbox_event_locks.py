"""Events applied many at a time wait for those about the same, and in one order everywhere."""

import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from operator import methodcaller

import psycopg
import pytest

from server.domain.caller import Caller, CallerKind
from server.domain.errors import Reason, Refusal
from server.domain.identifiers import PersonIdentifier
from server.encoded_person import encode_person
from server.store.mailbox_events import Event, apply_events
from server.store.store import Store
from server.store.transaction import Answer, Transaction, WriteRequest
from tests.server.watching import wait_until
from tests.store import steps
from tests.store.conftest import connect
from tests.store.steps import DIGIPOST, NOW, OLA, in_time, register, request
from tests.store.test_mailbox_events import apply, event, reason, write_many


def name_of(database: psycopg.Connection) -> str:
    return database.info.dbname


def is_waiting(database: psycopg.Connection) -> bool:
    """Whether a transaction of the store waits for another one."""
    query = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(database.execute(query).fetchall())


def test_two_who_claim_the_same_requests_share_them_out(store: Store) -> None:
    requests = [request() for _ in range(20)]

    def push(order: list[WriteRequest]) -> list[Answer | None]:
        return write_many(store, order, lambda _, places: [Answer("DONE")] * len(places))

    one, other = steps.together(partial(push, requests), partial(push, requests[::-1]))

    new = [sum(not answer.duplicate for answer in answers if answer) for answers in (one, other)]
    assert sorted(new) == [0, 20]


def test_whoever_counts_an_event_about_somebody_unknown_waits_for_who_does_so_too(store: Store) -> None:
    def removal(sequence: int) -> Event:
        return event(
            store, OLA, lambda person: person.delete_mailbox(DIGIPOST), removes=True, sequence=sequence
        )

    with ThreadPoolExecutor() as threads:

        def first(transaction: Transaction) -> None:
            apply_events(transaction, DIGIPOST, [removal(2)], NOW)
            later.append(threads.submit(apply, store, [removal(1)]))
            with pytest.raises(TimeoutError):
                later[0].result(timeout=0.2)

        later: list[Future[list[int | Refusal]]] = []
        store.write(Caller(CallerKind.OPERATOR, DIGIPOST), first, deadline=in_time())
        [outcome] = later[0].result(timeout=10)

    assert reason(outcome) is Reason.OUTDATED


def claim(store: Store, order: Sequence[bytes]) -> object:
    requests = [WriteRequest(uuid.UUID(bytes=key), b"body") for key in order]
    return write_many(store, requests, lambda _, places: [Answer("DONE")] * len(places))


def lock(store: Store, order: Sequence[bytes]) -> object:
    identifiers = [PersonIdentifier(key.decode()) for key in order]
    return store.write(
        steps.ADMINISTRATOR,
        lambda transaction: transaction.lock_persons(identifiers) and None,
        deadline=in_time(),
    )


def count_removals(store: Store, order: Sequence[bytes]) -> object:
    removals = [
        Event(
            # Of persons whom the register does not know.
            identifier=identifier,
            person_key=key,
            verb=methodcaller("delete_mailbox", DIGIPOST),
            removes=True,
            sequence=1,
        )
        for identifier, key in zip(steps.some_persons(len(order)), order, strict=True)
    ]
    return apply(store, removals)


@pytest.mark.parametrize(
    ("take", "do", "keys"),
    [
        (
            "INSERT INTO request (caller, request_id, body_hash)"
            " VALUES ('administrator/test', encode(%s, 'hex')::uuid, '')",
            claim,
            [bytes([number]) * 16 for number in range(1, 4)],
        ),
        (
            "SELECT 1 FROM person WHERE identifier = convert_from(%s, 'UTF8') FOR UPDATE",
            lock,
            [each.encode() for each in sorted(steps.some_persons(3))],
        ),
        (
            "INSERT INTO mailbox_sequence VALUES ('984661185', %s, 1)",
            count_removals,
            [bytes([number]) * 32 for number in range(1, 4)],
        ),
    ],
    ids=["requests", "persons", "sequences"],
)
def test_what_others_may_want_too_is_locked_in_one_order_whatever_the_order_of_the_events(
    store: Store,
    database_url: str,
    database: psycopg.Connection,
    take: str,
    do: Callable[[Store, Sequence[bytes]], object],
    keys: list[bytes],
) -> None:
    low, middle, high = keys
    # In another order in the table, which is read as it is.
    for identifier in sorted(steps.some_persons(3), reverse=True):
        register(store, identifier)
    for way in ("indexscan", "bitmapscan"):
        database.execute(
            f"ALTER ROLE CURRENT_USER IN DATABASE {name_of(database)} SET enable_{way} = off".encode()
        )
    store = Store(database_url, encode_person, connections=1, require_durable=False)

    def is_taken(key: bytes) -> bool:
        with database.transaction(force_rollback=True):
            database.execute("SET LOCAL lock_timeout = '100ms'")
            try:
                database.execute(take.encode(), [key])
            except psycopg.errors.LockNotAvailable:
                return True
        return False

    with ThreadPoolExecutor() as threads, connect(database_url) as other:
        with other.transaction(force_rollback=True):
            other.execute(take.encode(), [middle])
            done = threads.submit(do, store, [high, low, middle])
            wait_until(lambda: is_waiting(database), 10, "it waits for the one in the middle")
            assert (is_taken(low), is_taken(high)) == (True, False)
        done.result(timeout=10)
    store.close()
