"""Imports in the database: what a chunk does in its one transaction, and what is forgotten when."""

import threading
import uuid
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from server.domain.contact import ContactKind, ContactPoint
from server.domain.errors import Reason
from server.domain.identifiers import OrganisationNumber, PersonIdentifier
from server.domain.person import Person, Status
from server.encoded_person import encode_person
from server.store import person_import
from server.store.person_import import PersonImport, Rejection, enter, find_import, finish, forget_old_imports
from server.store.person_staging import StagedPerson, enter_staged
from server.store.store import Store
from server.store.transaction import Transaction
from tests.plain_loading import staged
from tests.store.sharing import recount_all, shared, somebody_waits_for_a_lock, wait_until
from tests.store.steps import (
    ADMINISTRATOR,
    DIGIPOST,
    EBOKS,
    MAILBOXES,
    MOBILE,
    NOW,
    OLA,
    in_time,
    person_of,
    refusal_of,
    register,
    some_persons,
)

ID = uuid.uuid4()
EMAIL = ContactKind.EMAIL


def begin(store: Store, id_: uuid.UUID = ID) -> None:
    store.write(
        ADMINISTRATOR, partial(person_import.open_import, import_id=id_, check_only=False), deadline=in_time()
    )


def new_person(identifier: PersonIdentifier, email: str = "ola@example.com") -> Person:
    contacts = {
        EMAIL: ContactPoint(value=email, updated=NOW),
        MOBILE: ContactPoint(value="+4791234567", updated=NOW, confirmed=NOW, validated=NOW),
    }
    return Person(
        identifier=identifier,
        status=Status.ACTIVE,
        contacts=contacts,
        mailboxes=MAILBOXES[::-1],
        chosen=DIGIPOST,
    )


def staged_rows(store: Store, persons: Sequence[Person], first: int = 1) -> list[StagedPerson]:
    return [staged(row, each, store.digest) for row, each in enumerate(persons, first)]


def import_rows(store: Store, rows: Sequence[StagedPerson | Rejection], id_: uuid.UUID = ID) -> PersonImport:
    return store.write(ADMINISTRATOR, partial(enter, import_id=id_, rows=rows), deadline=in_time())


def end(store: Store, id_: uuid.UUID = ID) -> tuple[PersonImport, bool]:
    return store.write(ADMINISTRATOR, partial(finish, import_id=id_), deadline=in_time())


def found(store: Store, id_: uuid.UUID = ID) -> PersonImport:
    return store.read(lambda reader: find_import(reader, id_), deadline=in_time())


def encoded(database: psycopg.Connection, identifier: PersonIdentifier) -> bytes:
    [(stored,)] = database.execute("SELECT encoded FROM person WHERE identifier = %s", (identifier,))
    return bytes(stored)


def test_who_is_imported_is_read_as_given_and_ready_to_be_sent(
    store: Store, database: psycopg.Connection
) -> None:
    begin(store)
    identifiers = some_persons(3)
    given = [
        Person(identifier=identifiers[0], status=Status.DELETED),
        Person(identifier=identifiers[1], status=Status.ACTIVE, reserved=True, reservation_time=NOW),
        new_person(identifiers[2]),
    ]

    import_rows(store, staged_rows(store, given))

    for number, each in enumerate(given, 1):
        entered = person_of(store, each.identifier)
        assert entered.change_number == number
        assert encoded(database, each.identifier) == encode_person(entered)
        assert (entered.contacts, entered.mailboxes) == (each.contacts, each.mailboxes)
        assert (entered.chosen, entered.reserved, entered.status) == (each.chosen, each.reserved, each.status)
    changes = database.execute("SELECT operator, change_number FROM mailbox_change ORDER BY 1").fetchall()
    assert changes == [(EBOKS, 3), (DIGIPOST, 3)]


def test_nothing_is_left_in_staging(store: Store, database: psycopg.Connection) -> None:
    begin(store)

    import_rows(store, staged_rows(store, list(map(new_person, some_persons(3)))))

    assert not database.execute("SELECT FROM pg_class WHERE relname LIKE 'staged%'").fetchall()


def test_one_who_registers_while_a_chunk_waits_for_its_numbers_is_found_present(
    store: Store, database_url: str, database: psycopg.Connection
) -> None:
    begin(store)
    rows = staged_rows(store, list(map(new_person, some_persons(5))))
    late = rows[2].identifier
    database.execute("BEGIN")
    database.execute("UPDATE register SET last_change_number = last_change_number + 1")
    importing = threading.Thread(target=import_rows, args=(store, rows))
    importing.start()
    with psycopg.connect(database.info.dsn, autocommit=True) as beside:
        wait_until(lambda: somebody_waits_for_a_lock(beside))

    database.execute(
        "INSERT INTO person (identifier, status, reserved, change_number) VALUES (%s, 'ACTIVE', true, 1)",
        (late,),
    )
    database.execute("COMMIT")
    importing.join()

    imported = found(store)
    assert (imported.received_row, imported.loaded_count, imported.present_count) == (5, 4, 1)
    assert person_of(store, late).reserved
    [numbers] = database.execute("SELECT array_agg(change_number ORDER BY 1) FROM person").fetchall()
    assert numbers == ([1, 2, 3, 4, 5],)


def test_a_chunk_that_fails_leaves_nothing(store: Store, database: psycopg.Connection) -> None:
    begin(store)
    [good, bad] = staged_rows(store, list(map(new_person, some_persons(2))))
    unknown_operator = bad._replace(
        mailboxes=(bad.mailboxes[0]._replace(operator=OrganisationNumber("999999999")),)
    )

    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        import_rows(store, [good, unknown_operator])

    assert not database.execute("SELECT FROM person").fetchall()
    assert found(store).received_row == 0
    assert import_rows(store, [good, bad]).loaded_count == 2


def test_only_rows_that_are_not_done_are_done(store: Store) -> None:
    begin(store)
    persons = list(map(new_person, some_persons(4)))
    rows: list[StagedPerson | Rejection] = [
        *staged_rows(store, persons),
        Rejection(5, "row", "INVALID_FIELD"),
    ]

    import_rows(store, rows[:3])
    again = import_rows(store, rows)
    last = import_rows(store, rows[4:])

    assert again == last
    assert again[2:6] == (5, 4, 0, 1)


def test_a_row_of_an_unknown_or_a_finished_import_is_refused(store: Store) -> None:
    rows = [Rejection(1, "row", "INVALID_FIELD"), Rejection(2, "row", "INVALID_FIELD")]
    assert refusal_of(lambda: import_rows(store, rows)) is Reason.UNKNOWN_IMPORT
    begin(store)
    import_rows(store, rows[:1])
    finished, by_this = end(store)
    assert by_this

    assert refusal_of(lambda: import_rows(store, rows)) is Reason.IMPORT_FINISHED
    assert import_rows(store, rows[:1]) == finished
    assert end(store) == (finished, False)


def test_finishing_notes_the_values_whose_flags_are_wrong_and_no_others(
    store: Store, database: psycopg.Connection
) -> None:
    register(store, OLA)
    recount_all(store)
    begin(store)
    identifiers = some_persons(4)
    emails = ["ola@example.com", "Kari@example.com", "kari@example.com", "only@example.com"]
    persons = [new_person(each, email) for each, email in zip(identifiers, emails, strict=True)]
    import_rows(store, staged_rows(store, persons))
    assert not database.execute("SELECT FROM shared_recount").fetchall()

    end(store)

    noted = database.execute(
        "SELECT kind, count(*) FROM shared_recount GROUP BY kind ORDER BY kind"
    ).fetchall()
    assert noted == [("email", 2), ("mobile", 1)]
    recount_all(store)
    assert shared(store, OLA, *identifiers) == [True, True, True, True, False]
    begin(store, other := uuid.uuid4())
    end(store, other)
    assert not database.execute("SELECT FROM shared_recount").fetchall()


def test_an_import_is_forgotten_90_days_after_it_was_finished_and_its_persons_stay(
    store: Store, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(person_import, "_FORGOTTEN_AT_ONCE", 3)
    ids = [uuid.uuid4() for _ in range(3)]
    for id_, ago in zip(ids, (timedelta(days=91), timedelta(days=89), None), strict=True):
        begin(store, id_)
        import_rows(store, [Rejection(row, "row", "INVALID_FIELD") for row in range(1, 6)], id_)
        if ago:
            end(store, id_)
            database.execute("UPDATE person_import SET finished_time = now() - %s WHERE id = %s", (ago, id_))
    begin(store)
    import_rows(store, staged_rows(store, [new_person(OLA)]))
    end(store)
    database.execute(
        "UPDATE person_import SET finished_time = now() - interval '91 days' WHERE id = %s", (ID,)
    )

    forgotten = [store.write(ADMINISTRATOR, forget_old_imports, deadline=in_time()) for _ in range(3)]

    assert forgotten == [1, 1, 0]
    kept = database.execute("SELECT id FROM person_import").fetchall()
    assert {id_ for (id_,) in kept} == set(ids[1:])
    assert len(database.execute("SELECT FROM person_import_rejection").fetchall()) == 10
    assert not database.execute("SELECT FROM person_import_chunk").fetchall()
    assert person_of(store, OLA).status is Status.ACTIVE


def test_a_connection_lost_in_the_middle_of_a_chunk_is_made_up_for(
    store: Store, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(store)
    lost = 0

    def lose_and_enter(transaction: Transaction, *arguments: Any) -> None:
        nonlocal lost
        if lost < 2:
            process = transaction.connection.scalar(text("SELECT pg_backend_pid()"))
            database.execute("SELECT pg_terminate_backend(%s, 5000)", (process,))
            lost += 1
        enter_staged(transaction, *arguments)

    monkeypatch.setattr(person_import, "enter_staged", lose_and_enter)

    imported = import_rows(store, staged_rows(store, list(map(new_person, some_persons(3)))))

    assert lost == 2
    assert (imported.received_row, imported.loaded_count) == (3, 3)
    assert database.execute("SELECT last_change_number FROM register").fetchall() == [(3,)]
    assert database.execute("SELECT change_number FROM person ORDER BY 1").fetchall() == [(1,), (2,), (3,)]
