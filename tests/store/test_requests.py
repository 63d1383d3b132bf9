"""A repeated request: done once, answered the same each time."""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import NoReturn

import psycopg
import pytest

from server.domain.caller import Caller, CallerKind
from server.domain.change import Change
from server.domain.contact import ContactKind
from server.domain.errors import Reason
from server.domain.person import Person
from server.store.store import Store
from server.store.transaction import Answer, Transaction, WriteRequest
from tests.store import steps
from tests.store.steps import (
    DIGIPOST,
    KARI,
    MOBILE,
    NOW,
    OLA,
    in_time,
    person_of,
    refusal_of,
    register,
    write,
)

THREADS = 8


def _reserve(person: Person) -> Person:
    return person.reserve(NOW)


def _cancel(person: Person) -> Person:
    return person.cancel_reservation(NOW)


def _first_log_in(person: Person) -> Person:
    return person.register(NOW, {MOBILE: "+4791234567"}, None)


def _count(database: psycopg.Connection, table: str) -> int:
    [count] = database.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() or [0]  # noqa: S608 (a name from this file)
    assert isinstance(count, int)
    return count


def test_the_same_request_from_many_threads_is_done_once_and_answered_the_same(
    store: Store, database: psycopg.Connection
) -> None:
    register(store, OLA)
    once = steps.request()

    answers = steps.together(*[partial(write, store, OLA, _reserve, once)] * THREADS)

    assert {replace(answer, duplicate=False) for answer in answers} == {Answer("DONE", 2)}
    assert sum(not answer.duplicate for answer in answers) == 1
    assert _count(database, "history WHERE change_number > 1") == 1


def test_a_repeated_request_is_not_done_again_after_the_person_changed(store: Store) -> None:
    register(store, OLA)
    once = steps.request()
    first = write(store, OLA, _reserve, once)
    write(store, OLA, _cancel)

    again = write(store, OLA, _reserve, once)

    assert again == replace(first, duplicate=True)
    assert not person_of(store, OLA).reserved


def test_an_answer_keeps_all_its_parts(store: Store) -> None:
    once, given = steps.request(), Answer("LOADED", 7, 1000)
    for duplicate in (False, True):
        answer = store.write(steps.ADMINISTRATOR, lambda _: given, deadline=in_time(), request=once)
        assert answer == replace(given, duplicate=duplicate)


def test_a_request_id_with_another_body_is_refused_and_changes_nothing(store: Store) -> None:
    register(store, OLA)
    once = steps.request(b"reserve")
    write(store, OLA, _reserve, once)

    other = WriteRequest(once.request_id, b"cancel")

    assert refusal_of(lambda: write(store, OLA, _cancel, other)) is Reason.REQUEST_ID_REUSED
    assert person_of(store, OLA).reserved


def test_two_callers_may_use_the_same_request_id(store: Store) -> None:
    once = steps.request()
    callers = [
        Caller(CallerKind.CITIZEN, OLA),
        Caller(CallerKind.CITIZEN, KARI),
        Caller(CallerKind.OPERATOR, DIGIPOST),
        Caller(CallerKind.LOG_IN_SERVICE, DIGIPOST),
    ]
    answers = [
        store.write(caller, lambda _: Answer("DONE"), deadline=in_time(), request=once) for caller in callers
    ]
    assert not any(answer.duplicate for answer in answers)


def test_a_refused_write_leaves_no_trace_and_is_judged_again(
    store: Store, database: psycopg.Connection
) -> None:
    register(store, OLA)
    write(store, OLA, _reserve)
    once = steps.request()
    choose = partial(write, store, OLA, lambda person: person.choose_mailbox(DIGIPOST), once)
    before = (person_of(store, OLA), _count(database, "history"))

    assert refusal_of(choose) is Reason.RESERVED

    assert (person_of(store, OLA), _count(database, "history")) == before
    assert _count(database, "request") == _count(database, "delivery") == _count(database, "message") == 0
    assert database.execute("SELECT last_change_number FROM register").fetchone() == (2,)
    write(store, OLA, _cancel)
    assert choose() == Answer("DONE", 4)


def test_whatever_breaks_a_write_after_its_last_statement_undoes_all_of_it(
    store: Store, database: psycopg.Connection
) -> None:
    register(store, OLA)

    def do(transaction: Transaction) -> NoReturn:
        before = transaction.person(OLA)
        transaction.record([Change(before, before.choose_mailbox(DIGIPOST))], NOW)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.write(steps.ADMINISTRATOR, do, deadline=in_time(), request=steps.request())
    assert person_of(store, OLA).chosen is None
    assert _count(database, "request") == _count(database, "delivery") == _count(database, "message") == 0


def test_a_request_waits_for_the_same_one_under_way_and_is_done_if_that_fails(store: Store) -> None:
    once = steps.request()
    claimed, fail = threading.Event(), threading.Event()

    def fails(_: Transaction) -> Answer:
        claimed.set()
        assert fail.wait(timeout=10)
        raise ZeroDivisionError

    def run(do: Callable[[Transaction], Answer]) -> Answer:
        return store.write(steps.ADMINISTRATOR, do, deadline=in_time(), request=once)

    with ThreadPoolExecutor() as threads:
        first = threads.submit(run, fails)
        assert claimed.wait(timeout=10)
        second = threads.submit(run, lambda _: Answer("DONE"))
        with pytest.raises(TimeoutError):
            second.result(timeout=0.2)
        fail.set()
        assert isinstance(first.exception(timeout=10), ZeroDivisionError)
        assert second.result(timeout=10) == Answer("DONE")


def test_two_who_enter_the_same_new_person_at_once_have_one_effect(
    store: Store, database: psycopg.Connection
) -> None:
    persons = steps.some_persons(5)
    for identifier in persons:
        enter = partial(write, store, identifier, _first_log_in)
        reasons = steps.together(*[partial(refusal_of, enter)] * THREADS)
        assert sorted(map(str, reasons)) == ["None"] + [str(Reason.ALREADY_REGISTERED)] * (THREADS - 1)
    assert _count(database, "person") == len(persons)
    numbers = database.execute("SELECT DISTINCT change_number FROM history ORDER BY 1").fetchall()
    assert numbers == [(number,) for number in range(1, len(persons) + 1)]


def test_answers_are_kept_for_90_days_and_forgotten_after(store: Store, database: psycopg.Connection) -> None:
    young, old = steps.request(), steps.request()
    for days, request in ((89, young), (91, old)):
        write(store, OLA, _reserve, request)
        aged = "UPDATE request SET created_time = now() - make_interval(days => %s) WHERE request_id = %s"
        database.execute(aged, (days, request.request_id))

    assert store.forget_old_answers(deadline=in_time()) == 1

    assert write(store, OLA, _reserve, young).duplicate
    assert not write(store, OLA, _reserve, old).duplicate


def test_stored_requests_do_not_tell_which_citizen_sent_them(
    store: Store, database: psycopg.Connection
) -> None:
    write(store, OLA, _first_log_in, steps.request())
    write(store, OLA, lambda person: person.update_contact(NOW, {ContactKind.EMAIL: "ola@example.com"}))
    stored = str(database.execute("SELECT request::text FROM request").fetchall())
    assert "citizen/" in stored
    assert OLA not in stored
    assert "example.com" not in stored


def test_neither_who_called_nor_what_was_asked_can_be_found_by_trying(
    store: Store, database: psycopg.Connection
) -> None:
    asked = steps.request(hashlib.sha256(OLA.encode()).digest())
    register(store, OLA)
    write(store, OLA, _reserve, asked)

    [(caller, body_hash)] = database.execute(
        "SELECT caller, body_hash FROM request WHERE request_id = %s", [asked.request_id]
    ).fetchall()

    assert OLA not in caller
    assert hashlib.sha256(OLA.encode()).hexdigest()[:32] not in caller
    assert body_hash != asked.body_hash
