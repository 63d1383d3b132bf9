"""ListHistory: what a citizen is told of the changes to the own entry, and in which pages."""

from datetime import UTC, datetime
from typing import Any

import pytest
from krr.v1 import citizen_service_pb2 as pb
from krr.v1 import mailbox_operator_service_pb2, person_pb2
from krr_client import RegisterError
from psycopg import Connection

from tests.conftest import Register
from tests.people import DIGIPOST, KARI, NIELS, OLA, register_request, request_id
from tests.server.test_citizen_writes import own_entry, update, write


def history(register: Register, identifier: str = OLA, **fields: Any) -> pb.ListHistoryResponse:
    return register.as_citizen(identifier).ListHistory(pb.ListHistoryRequest(identifier=identifier, **fields))


def said(page: pb.ListHistoryResponse) -> list[tuple[str, list[str]]]:
    """Who changed what, newest first."""
    return [
        (pb.ChangedBy.Name(entry.changed_by).removeprefix("CHANGED_BY_"), list(entry.fields))
        for entry in page.entries
    ]


def changes(register: Register, identifier: str, count: int) -> list[int]:
    """Make changes; their numbers, newest first."""
    languages = [person_pb2.LANGUAGE_NN, person_pb2.LANGUAGE_EN]
    answers = [
        write(register, "SetLanguage", identifier, language=languages[i % 2]).change_number
        for i in range(count)
    ]
    return answers[::-1]


def test_a_citizen_sees_which_fields_changed_when_and_by_whom_and_no_values(register: Register) -> None:
    began = datetime.now(UTC)
    register.as_log_in_service().RegisterPerson(register_request(OLA))
    register.as_digipost().CreateAndChooseMailbox(
        mailbox_operator_service_pb2.CreateAndChooseMailboxRequest(
            event_id=request_id(), identifier=OLA, address="ola.nordmann#9YDT"
        )
    )
    update(register, "email", "mobile", email="ola@example.org")
    write(register, "Reserve")

    page = history(register)

    assert said(page) == [
        ("CITIZEN", ["reserved"]),
        ("CITIZEN", ["email", "mobile"]),
        ("OPERATOR", ["mailboxes", "chosen"]),
        ("LOG_IN_SERVICE", ["status", "email", "mobile"]),
    ]
    assert [entry.change_number for entry in page.entries] == [4, 3, 2, 1]
    times = [entry.changed_time.ToDatetime(UTC) for entry in page.entries]
    assert times == sorted(times, reverse=True)
    assert began <= times[-1] <= times[0] <= datetime.now(UTC)
    for value in ("ola@example", "4791234567", "9YDT", DIGIPOST, OLA):
        assert value not in str(page)


def test_a_person_without_changes_has_an_empty_history(register: Register) -> None:
    assert history(register) == pb.ListHistoryResponse()


def test_a_write_that_changed_nothing_and_another_persons_change_are_not_in_it(register: Register) -> None:
    register.as_log_in_service().RegisterPerson(register_request(OLA))
    register.as_log_in_service().RegisterPerson(register_request(KARI, "kari@example.com", "92345678"))
    write(register, "CancelReservation")

    assert len(history(register).entries) == 1


def test_the_history_outlives_the_entry(register: Register) -> None:
    register.as_log_in_service().RegisterPerson(register_request(OLA))
    write(register, "DeletePerson")
    write(register, "Reserve")

    assert said(history(register)) == [
        ("CITIZEN", ["status", "reserved"]),
        ("CITIZEN", ["status", "email", "mobile"]),
        ("LOG_IN_SERVICE", ["status", "email", "mobile"]),
    ]


@pytest.mark.parametrize("page_size", [1, 2, 5, 6, 1000])
def test_pages_hold_each_change_once_newest_first_while_others_are_made(
    register: Register, page_size: int
) -> None:
    register.as_log_in_service().RegisterPerson(register_request(OLA))
    numbers = [*changes(register, OLA, 4), 1]

    page = history(register, page_size=page_size)
    entries = list(page.entries)
    while page.next_page_token:
        changes(register, OLA, 1)
        page = history(register, page_size=page_size, page_token=page.next_page_token)
        assert len(page.entries) <= page_size
        entries += page.entries

    assert [entry.change_number for entry in entries] == numbers
    assert [list(entry.fields) for entry in entries[:4]] == [["language"]] * 4


def test_a_page_of_the_usual_size_holds_a_hundred_changes(
    register: Register, database: "Connection[Any]"
) -> None:
    register.as_log_in_service().RegisterPerson(register_request(OLA))
    database.execute(
        "INSERT INTO history (person_id, change_number, changed_time, field, caller_kind) "
        "SELECT person.id, number, now(), field, 'citizen' FROM person, generate_series(2, 102) AS number, "
        "unnest(ARRAY['email', 'mobile']) AS field"
    )

    assert [entry.change_number for entry in history(register).entries] == list(range(102, 2, -1))


@pytest.mark.parametrize("page_size", [-1, 1001])
def test_a_page_size_out_of_bounds_is_refused(register: Register, page_size: int) -> None:
    with pytest.raises(RegisterError) as refused:
        history(register, page_size=page_size)

    assert refused.value.reason == "INVALID_FIELD"
    assert [field for field, _ in refused.value.fields] == ["page_size"]


def test_a_page_token_of_another_citizen_shows_nothing_of_that_one(register: Register) -> None:
    register.as_log_in_service().RegisterPerson(register_request(OLA))
    register.as_log_in_service().RegisterPerson(register_request(KARI, "kari@example.com", "92345678"))
    changes(register, KARI, 3)
    token = history(register, KARI, page_size=1).next_page_token

    page = history(register, page_token=token)

    assert [entry.change_number for entry in page.entries] == [1]


def test_a_shared_contact_point_is_a_warning_in_the_own_entry(
    register: Register, database: "Connection[Any]"
) -> None:
    for person in (OLA, KARI):
        register.as_log_in_service().RegisterPerson(register_request(person, "both@example.com", "92345678"))
    assert not own_entry(register, NIELS).shared_contacts
    update(register, "mobile", mobile="91234567")
    database.execute("UPDATE person SET email_shared = true")

    assert list(own_entry(register).shared_contacts) == [person_pb2.CONTACT_KIND_EMAIL]
    assert own_entry(register).person.email.shared
    assert not own_entry(register).person.mobile.shared
