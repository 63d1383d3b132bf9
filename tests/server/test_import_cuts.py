"""Imports that are cut, come twice at once, or run while citizens write: nothing lost, nothing doubled."""

import random
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import psycopg
import pytest
from krr.v1 import admin_service_pb2 as pb
from krr.v1 import citizen_service_pb2
from krr_client import RegisterError

from server.domain.errors import Reason, Refusal
from server.store import person_import
from tests.conftest import Register
from tests.people import register_request, request_id
from tests.server.database import contents
from tests.server.importing import (
    counts,
    faults,
    feed,
    get_import,
    import_id,
    messages_of,
    person,
    report,
    rows_of,
    send,
    some_identifiers,
    some_persons,
    spoilt_person,
    wait_for_flags,
)
from tests.server.rpcs import Rpcs
from tests.server.valid_requests import ADMINISTRATOR

IMPORT = "AdminService/ImportPersons"
ID = import_id()


def cut_after(rpcs: Rpcs, messages: Iterable[pb.ImportPersonsRequest], count: int) -> None:
    """Send some of the messages, then be gone."""
    sent, over = threading.Event(), threading.Event()

    def some() -> Any:
        yield from islice(messages, count)
        sent.set()
        over.wait(10)

    call = rpcs.stream(IMPORT, some(), ADMINISTRATOR)
    assert sent.wait(10)
    call.cancel()
    over.set()


@pytest.mark.parametrize("seed", range(4))
def test_an_import_cut_anywhere_goes_on_after_what_it_has_received(
    rpcs: Rpcs, register: Register, database: "psycopg.Connection[Any]", small_chunks: None, seed: int
) -> None:
    chance = random.Random(seed)
    persons: list[pb.PersonToLoad] = []
    good: dict[str, pb.PersonToLoad] = {}
    planted = []
    for row, identifier in enumerate(some_identifiers(150), 1):
        kind = chance.choices(("good", "spoilt", "repeated"), (8, 1, 1))[0]
        if kind == "spoilt":
            spoilt, field, reason = spoilt_person(row, identifier)
            persons.append(spoilt)
            planted.append((row, field, reason))
        elif kind == "repeated" and good:
            # Entered long before, or just now.
            persons.append(person(row, chance.choice(list(good))))
            planted.append((row, "identifier", "DUPLICATE_ROW"))
        else:
            good[identifier] = person(row, identifier)
            persons.append(good[identifier])
    rows = rows_of(persons)
    send(register, [pb.ImportPersonsRequest(import_id=ID)])

    for _ in range(12):
        received = get_import(register, ID).received_row
        from_row = received if chance.random() < 0.7 else chance.randint(0, received)
        messages = messages_of(ID, rows[from_row:], chance.randint(1, 20))
        cut_after(rpcs, messages, chance.randint(0, 4))
    imported = send(register, messages_of(ID, rows))

    assert report(register, ID) == planted
    assert counts(imported) == (150 - len(planted), 0, len(planted))
    entered = {
        each: (one.email.value, one.mobile.value, one.language) for each, one in feed(register).items()
    }
    assert entered == {each: (one.email.value, one.mobile.value, one.language) for each, one in good.items()}
    wait_for_flags(database)
    assert faults(database) == {}


def test_after_a_chunk_that_could_not_be_entered_none_is_and_the_import_goes_on_with_it(
    register: Register,
    database: "psycopg.Connection[Any]",
    small_chunks: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = rows_of(some_persons(50))
    enter, ends = person_import.enter, []

    def enter_all_but_the_third(*arguments: Any, **named: Any) -> Any:
        ends.append(named["rows"][-1].row)
        if len(ends) == 3:
            raise Refusal(Reason.CONFLICT)
        return enter(*arguments, **named)

    monkeypatch.setattr(person_import, "enter", enter_all_but_the_third)

    with pytest.raises(RegisterError) as refused:
        send(register, messages_of(ID, rows))

    assert refused.value.reason == "CONFLICT"
    assert ends[:3] == [7, 14, 21]
    assert get_import(register, ID).received_row == 14
    assert len(database.execute("SELECT FROM person").fetchall()) == 14
    assert counts(send(register, messages_of(ID, rows))) == (50, 0, 0)
    wait_for_flags(database)
    assert faults(database) == {}


def test_two_streams_of_one_import_at_once_enter_each_person_once(
    register: Register, database: "psycopg.Connection[Any]", small_chunks: None
) -> None:
    rows = rows_of(some_persons(200))

    with ThreadPoolExecutor(2) as both:
        ends = [both.submit(send, register, messages_of(ID, rows, size)) for size in (17, 40)]
    one, other = (end.result() for end in ends)

    assert one == other == get_import(register, ID)
    assert counts(one) == (200, 0, 0)
    assert report(register, ID) == []
    wait_for_flags(database)
    assert faults(database) == {}


def test_citizens_who_write_during_an_import_lose_nothing_and_nothing_is_wrong_afterwards(
    register: Register, database: "psycopg.Connection[Any]", small_chunks: None
) -> None:
    identifiers = some_identifiers(400)
    rows = rows_of([person(index, each) for index, each in enumerate(identifiers)])
    ended = threading.Event()
    written: dict[str, str] = {}

    def write(seed: int) -> None:
        chance = random.Random(seed)
        # Of nobody else's, so that the last one is known.
        own = identifiers[seed::4]
        while not ended.is_set():
            each = chance.choice(own)
            email = f"own-{chance.randrange(40)}@example.com"
            try:
                register.as_log_in_service().RegisterPerson(register_request(each, email, f"9{each[:7]}"))
            except RegisterError as error:
                if error.reason != "ALREADY_REGISTERED":
                    assert error.reason in ("INVALID_MOBILE", "NOT_A_MOBILE")
                    continue
                request = citizen_service_pb2.UpdateContactRequest(
                    request_id=request_id(), identifier=each, email=email
                )
                request.update_mask.paths.append("email")
                register.as_citizen(each).UpdateContact(request)
            written[each] = email

    with ThreadPoolExecutor(4) as citizens:
        writers = [citizens.submit(write, seed) for seed in range(4)]
        try:
            imported = send(register, messages_of(ID, rows, 50))
        finally:
            ended.set()
    for each in writers:
        each.result()

    assert written
    loaded, present, rejected = counts(imported)
    assert (loaded + present, rejected) == (400, 0)
    assert loaded
    assert present
    wait_for_flags(database)
    copy = feed(register)
    assert set(copy) == set(identifiers)
    assert {each: copy[each].email.value for each in written} == written
    assert faults(database) == {}
    assert contents(database, ("delivery",)) == {"delivery": []}
    # The citizens' changes of an imported address are told to the old one; the import tells nobody.
    kinds = database.execute("SELECT DISTINCT kind FROM message").fetchall()
    assert kinds in ([], [("CONTACT_CHANGED",)])
