"""Persons that code from before changed, seen by public bodies before and after they are encoded."""

import time
from typing import Any

import psycopg
import pytest
from krr.v1 import person_pb2
from krr.v1 import register_service_pb2 as pb

from server.__main__ import Server
from tests.conftest import Register
from tests.people import KARI, OLA, register_request

SECONDS = 10
CHANGE = """
    WITH next AS (UPDATE register SET last_change_number = last_change_number + 1
                  RETURNING last_change_number)
    UPDATE person SET email = 'other@example.com', change_number = last_change_number
    FROM next WHERE identifier = %s
"""


def encoded(database: "psycopg.Connection[Any]", identifier: str) -> bytes | None:
    [(found,)] = database.execute(
        "SELECT encoded FROM person WHERE identifier = %s", (identifier,)
    ).fetchall()
    assert found is None or isinstance(found, bytes)
    return found


def read(register: Register) -> list[person_pb2.Person]:
    """Both, looked up; the feed says the same of them."""
    request = pb.LookUpPersonsRequest(identifiers=[OLA, KARI], purpose=pb.PURPOSE_SERVICE_MESSAGE)
    persons = [entry.person for entry in register.as_public_body().LookUpPersons(request).entries]
    page = register.as_public_body().ListChanges(pb.ListChangesRequest())
    assert list(page.persons) == sorted(persons, key=lambda person: person.change_number)
    return persons


@pytest.fixture
def both_registered(register: Register) -> None:
    """Each alone with all contact info."""
    for identifier, email, mobile in (
        (OLA, "ola@example.com", "+4791234567"),
        (KARI, "kari@example.com", "+4741234567"),
    ):
        register.as_log_in_service().RegisterPerson(register_request(identifier, email, mobile))


@pytest.mark.usefixtures("both_registered")
def test_what_code_from_before_changes_is_read_right_also_before_it_is_encoded(
    server: Server, register: Register, database: "psycopg.Connection[Any]"
) -> None:
    for job in server._jobs:
        job.end()
    database.execute(CHANGE, (OLA,))

    ola, kari = read(register)

    assert (ola.email.value, ola.change_number) == ("other@example.com", 3)
    assert kari.email.value == "kari@example.com"
    assert encoded(database, OLA) is None


@pytest.mark.usefixtures("both_registered")
def test_what_code_from_before_changes_is_encoded_soon_and_read_the_same(
    register: Register, database: "psycopg.Connection[Any]"
) -> None:
    database.execute(CHANGE, (OLA,))
    before = read(register)

    until = time.monotonic() + SECONDS
    while encoded(database, OLA) is None:
        assert time.monotonic() < until
        time.sleep(0.05)

    assert read(register) == before
    assert before[0].email.value == "other@example.com"
