"""The shared flag, seen from the register's callers while the server counts beside them."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, LiteralString

import grpc
import psycopg
import pytest
from krr.v1 import admin_service_pb2, citizen_service_pb2, person_pb2
from krr.v1 import register_service_pb2 as pb

from server.__main__ import Server
from tests.conftest import Register
from tests.people import KARI, OLA, register_request, request_id, synthetic_identifiers
from tests.server.rpcs import Rpcs

# By when the contract's "within seconds" is over.
SECONDS = 10
PERSONS, VALUES, WRITERS = 500, 50, 8


def look_up(register: Register, *identifiers: str) -> list[person_pb2.Person]:
    answer = register.as_public_body().LookUpPersons(
        pb.LookUpPersonsRequest(identifiers=identifiers, purpose=pb.PURPOSE_SERVICE_MESSAGE)
    )
    return [entry.person for entry in answer.entries]


def shared_contacts(register: Register, identifier: str) -> list["person_pb2.ContactKind.ValueType"]:
    request = citizen_service_pb2.GetPersonRequest(identifier=identifier)
    return list(register.as_citizen(identifier).GetPerson(request).shared_contacts)


def update_email(identifier: str, email: str) -> citizen_service_pb2.UpdateContactRequest:
    request = citizen_service_pb2.UpdateContactRequest(
        request_id=request_id(), identifier=identifier, email=email
    )
    request.update_mask.paths.append("email")
    return request


def seconds_until(true: Callable[[], bool]) -> float:
    """How long it took to become true."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < SECONDS
        time.sleep(0.05)
    return time.monotonic() - began


def test_the_flag_is_seen_by_public_bodies_also_in_the_feed_and_by_the_citizen(register: Register) -> None:
    register.as_log_in_service().RegisterPerson(register_request(OLA, "ola@example.com", "+4791234567"))
    alone = register.as_public_body().ListChanges(pb.ListChangesRequest()).cursor
    assert shared_contacts(register, OLA) == []

    register.as_log_in_service().RegisterPerson(register_request(KARI, "Ola@example.com", "+4741234567"))
    seconds_until(lambda: all(person.email.shared for person in look_up(register, OLA, KARI)))

    assert not any(person.mobile.shared for person in look_up(register, OLA, KARI))
    assert shared_contacts(register, OLA) == [person_pb2.CONTACT_KIND_EMAIL]
    together = register.as_public_body().ListChanges(pb.ListChangesRequest(after_cursor=alone))
    assert {person.identifier: person.email.shared for person in together.persons} == {OLA: True, KARI: True}

    register.as_citizen(KARI).UpdateContact(update_email(KARI, "kari@example.com"))
    seconds_until(lambda: not look_up(register, OLA)[0].email.shared)

    assert shared_contacts(register, OLA) == []
    page = register.as_public_body().ListChanges(pb.ListChangesRequest(after_cursor=together.cursor))
    assert [(person.identifier, person.email.shared) for person in page.persons] == [
        (KARI, False),
        (OLA, False),
    ]


def test_the_history_says_that_the_register_changed_the_flag(register: Register) -> None:
    for identifier in (OLA, KARI):
        register.as_log_in_service().RegisterPerson(register_request(identifier))
    seconds_until(lambda: all(person.mobile.shared for person in look_up(register, OLA, KARI)))

    request = citizen_service_pb2.ListHistoryRequest(identifier=OLA)
    entries = register.as_citizen(OLA).ListHistory(request).entries
    [counted] = [entry for entry in entries if "email_shared" in entry.fields]
    assert list(counted.fields) == ["email_shared", "mobile_shared"]
    assert counted.changed_by == citizen_service_pb2.CHANGED_BY_REGISTER


@pytest.fixture
def writers(server: Server) -> Iterator[list[Rpcs]]:
    """A channel of its own for each of several callers, which try nothing twice."""
    opened = [Rpcs(f"127.0.0.1:{server.port}") for _ in range(WRITERS)]
    yield opened
    for each in opened:
        each.close()


@pytest.mark.full_size_figures
def test_after_many_changes_at_once_every_flag_is_right_and_no_caller_met_a_deadlock(
    register: Register,
    writers: list[Rpcs],
    database: "psycopg.Connection[Any]",
    full_size: bool,
) -> None:
    changes = 10_000 if full_size else 1_000
    persons = list(islice(synthetic_identifiers(), PERSONS))
    addresses = [f"shared-{number}@example.com" for number in range(VALUES)]
    load(register, persons)

    def write(number: int, calls: Rpcs) -> list[grpc.StatusCode]:
        chance = random.Random(number)
        codes = []
        for _ in range(changes // WRITERS):
            person, address = chance.choice(persons), chance.choice(addresses)
            # Some have none afterwards, some write it in capitals.
            request = update_email(person, chance.choice([address] * 8 + ["", address.title()]))
            codes.append(calls.call("CitizenService/UpdateContact", request, f"citizen/{person}").code)
        return codes

    began = time.monotonic()
    with ThreadPoolExecutor(WRITERS) as threads:
        codes = [code for some in threads.map(write, range(WRITERS), writers) for code in some]
    wrote = time.monotonic() - began
    waited = seconds_until(lambda: not wrongly_flagged(register, persons))

    assert codes == [grpc.StatusCode.OK] * changes
    # Nothing is left that could make one wrong again.
    seconds_until(lambda: not database.execute("SELECT FROM shared_recount LIMIT 1").fetchall())
    assert not wrongly_flagged(register, persons)
    flagged = count(database, "SELECT count(*) FROM history WHERE field = 'email_shared'")
    deadlocks = count(database, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    print(
        f"{changes} changes by {WRITERS} writers in {wrote:.1f} s; all flags right {waited:.2f} s after the "
        f"last; {flagged} changes of flags; deadlocks in PostgreSQL: {deadlocks}, at a caller: 0"
    )


def count(database: "psycopg.Connection[Any]", statement: LiteralString) -> int:
    [(found,)] = database.execute(statement).fetchall()
    return int(found)


def load(register: Register, persons: list[str]) -> None:
    """Enter them without contact info."""
    loaded = [
        admin_service_pb2.PersonToLoad(
            identifier=each,
            status=person_pb2.PERSON_STATUS_ACTIVE,
            reservation=person_pb2.RESERVATION_NOT_RESERVED,
        )
        for each in persons
    ]
    register.as_administrator().LoadPersons(
        admin_service_pb2.LoadPersonsRequest(request_id=request_id(), persons=loaded)
    )


def wrongly_flagged(register: Register, persons: list[str]) -> list[str]:
    """Whose flag is not what counting everyone's address gives."""
    found = look_up(register, *persons)
    holders = Counter(person.email.value.casefold() for person in found if person.HasField("email"))
    return [
        person.identifier
        for person in found
        if person.email.shared != (holders[person.email.value.casefold()] > 1)
    ]
