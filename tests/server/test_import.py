"""ImportPersons, as its caller sees it: what is entered, what is reported, what is refused."""

from collections.abc import Sequence
from typing import Any

import grpc
import psycopg
import pytest
from krr.v1 import admin_service_pb2 as pb
from krr.v1 import citizen_service_pb2, person_pb2
from krr_client import RegisterError
from structlog.testing import capture_logs

from tests.conftest import Register
from tests.people import KARI, OLA, register_request, request_id
from tests.server.database import contents
from tests.server.importing import (
    FINISHED,
    PLANTED,
    RECEIVING,
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
from tests.server.rpcs import Rpcs, outcome_of
from tests.server.valid_requests import ADMINISTRATOR

IMPORT = "AdminService/ImportPersons"
ID = import_id()


def refusal_of(rpcs: Rpcs, *messages: pb.ImportPersonsRequest) -> tuple[str, tuple[str, ...]]:
    """Why the stream is refused, and which field is to blame."""
    with pytest.raises(grpc.RpcError) as refused:
        list(rpcs.stream(IMPORT, messages, ADMINISTRATOR))
    outcome = outcome_of(refused.value)
    return outcome.reason, outcome.fields


def message(
    *rows: pb.ImportRow, last: bool = False, id_: str = ID, check_only: bool = False
) -> pb.ImportPersonsRequest:
    return pb.ImportPersonsRequest(import_id=id_, rows=rows, last=last, check_only=check_only)


def unreadable(row: int, field: str = "email.value") -> pb.ImportRow:
    return pb.ImportRow(row=row, unreadable_field=field)


def own_entry(register: Register, identifier: str) -> citizen_service_pb2.GetPersonResponse:
    """All there is of a person, less what is the row's and not the person's."""
    request = citizen_service_pb2.GetPersonRequest(identifier=identifier)
    entry = register.as_citizen(identifier).GetPerson(request)
    entry.person.ClearField("identifier")
    entry.person.ClearField("change_number")
    for point in (entry.person.email, entry.person.mobile):
        point.shared = False
    entry.ClearField("shared_contacts")
    return entry


def test_who_is_imported_is_as_if_loaded_and_nobody_is_told(
    register: Register, database: "psycopg.Connection[Any]"
) -> None:
    identifiers = some_identifiers(60)
    loaded = [person(index, each) for index, each in enumerate(identifiers[:30])]
    register.as_administrator().LoadPersons(pb.LoadPersonsRequest(request_id=request_id(), persons=loaded))

    # The same persons, but for their identifiers.
    imported = send(register, messages_of(ID, rows_of(map(person, range(30), identifiers[30:]))))

    assert counts(imported) == (30, 0, 0)
    for one, other in zip(identifiers[:30], identifiers[30:], strict=True):
        assert own_entry(register, one) == own_entry(register, other)
    # Of the recount's history, no person's.
    assert not database.execute("SELECT FROM history WHERE caller_kind <> 'register'").fetchall()
    assert contents(database, ("delivery", "message")) == {"delivery": [], "message": []}
    wait_for_flags(database)
    both = database.execute("SELECT identifier, change_number, id FROM person").fetchall()
    assert len(both) == 60
    assert {each.change_number for each in feed(register).values()} == {number for _, number, _ in both}


def test_what_a_newer_contract_says_of_a_person_is_not_stored(
    register: Register, database: "psycopg.Connection[Any]"
) -> None:
    newer = [person(1, each) for each in some_identifiers(2)]
    for each in newer:
        # Field 1000 of a contact point.
        each.email.MergeFromString(b"\xc2\x3e\x05newer")

    register.as_administrator().LoadPersons(pb.LoadPersonsRequest(request_id=request_id(), persons=newer[:1]))
    send(register, messages_of(ID, rows_of(newer[1:])))

    stored = database.execute("SELECT encoded FROM person").fetchall()
    assert len(stored) == 2
    assert all(encoded and b"newer" not in encoded for (encoded,) in stored)


def test_an_import_says_how_far_it_is_and_when_it_is_finished(register: Register, small_chunks: None) -> None:
    rows = rows_of(some_persons(30))

    begun = send(register, messages_of(ID, rows[:20], last=False))

    assert begun == get_import(register, ID)
    assert (begun.state, begun.received_row, counts(begun)) == (RECEIVING, 20, (20, 0, 0))
    assert not begun.HasField("finished_time")
    finished = send(register, messages_of(ID, rows[20:]))
    assert finished == get_import(register, ID)
    assert (finished.state, finished.received_row, counts(finished)) == (FINISHED, 30, (30, 0, 0))
    assert finished.created_time == begun.created_time
    assert finished.finished_time.ToNanoseconds() > finished.created_time.ToNanoseconds()


def test_the_rows_that_are_not_as_they_must_be_are_reported_and_the_others_entered(
    register: Register, database: "psycopg.Connection[Any]", small_chunks: None
) -> None:
    identifiers = some_identifiers(50)
    rows, planted = [], []
    for index, identifier in enumerate(identifiers):
        # With gaps, as where a row takes several lines.
        row = index * 3 + 1
        if index % 4 == 1:
            spoilt, field, reason = spoilt_person(index // 4, identifier)
            rows.append(pb.ImportRow(row=row, person=spoilt))
            planted.append((row, field, reason))
        elif index % 9 == 2:
            rows.append(unreadable(row, "mailboxes[0].address"))
            planted.append((row, "mailboxes[0].address", "INVALID_FIELD"))
        else:
            rows.append(pb.ImportRow(row=row, person=person(index, identifier)))
    assert {(field, reason) for _, field, reason in planted} >= {(f, r) for _, f, r in PLANTED}

    imported = send(register, messages_of(ID, rows, size=11))

    assert report(register, ID) == report(register, ID, page_size=3) == planted
    assert counts(imported) == (50 - len(planted), 0, len(planted))
    taken = {row.person.identifier for row in rows if row.row not in {bad for bad, _, _ in planted}}
    assert set(feed(register)) == taken
    wait_for_flags(database)
    assert faults(database) == {}


def test_the_same_import_again_enters_nobody_and_is_answered_as_it_stands(
    register: Register, database: "psycopg.Connection[Any]", small_chunks: None
) -> None:
    rows = rows_of([*some_persons(30), spoilt_person(0, OLA)[0]])
    first = send(register, messages_of(ID, rows))
    wait_for_flags(database)
    before = contents(database)

    again = send(register, messages_of(ID, rows, size=13))
    only_begun = send(register, messages_of(ID, rows[:5], last=False))

    assert first == again == only_begun
    assert contents(database) == before
    assert [row for row, _, _ in report(register, ID)] == [31]


def test_persons_that_the_register_has_are_left_alone_tombstones_too(
    register: Register, database: "psycopg.Connection[Any]"
) -> None:
    for each in (OLA, KARI):
        register.as_log_in_service().RegisterPerson(register_request(each, f"{each}@example.com", "91234567"))
    register.as_citizen(KARI).DeletePerson(
        citizen_service_pb2.DeletePersonRequest(request_id=request_id(), identifier=KARI)
    )
    persons = [person(1, OLA), person(2, KARI), *some_persons(10)]
    before = own_entry(register, OLA), own_entry(register, KARI)

    imported = send(register, messages_of(ID, rows_of(persons)))
    other_id = import_id()
    other = send(register, messages_of(other_id, rows_of([*persons, persons[0], persons[3]])))

    assert counts(imported) == (10, 2, 0)
    assert counts(other) == (0, 14, 0)
    assert report(register, other_id) == []
    assert (own_entry(register, OLA), own_entry(register, KARI)) == before


def test_of_two_rows_with_one_identifier_the_first_is_entered_wherever_the_second_stands(
    register: Register, small_chunks: None
) -> None:
    persons = some_persons(20)
    near, far = person(77, persons[1].identifier), person(78, persons[2].identifier)
    rows = rows_of([*persons[:4], near, *persons[4:], far])

    imported = send(register, messages_of(ID, rows))

    assert counts(imported) == (20, 0, 2)
    assert report(register, ID) == [(5, "identifier", "DUPLICATE_ROW"), (22, "identifier", "DUPLICATE_ROW")]
    copy = feed(register)
    assert copy[persons[1].identifier].email.value == persons[1].email.value
    assert copy[persons[2].identifier].email.value == persons[2].email.value


def test_an_import_that_only_checks_reports_and_enters_nobody(
    register: Register, database: "psycopg.Connection[Any]", small_chunks: None
) -> None:
    register.as_log_in_service().RegisterPerson(register_request(OLA))
    before = contents(database)
    persons = [*some_persons(17), person(1, OLA), spoilt_person(0, KARI)[0]]
    rows = rows_of([*persons[:3], persons[1], *persons[3:]])

    begun = send(register, messages_of(ID, rows[:9], last=False, check_only=True))
    checked = send(register, messages_of(ID, rows, check_only=True))

    assert (begun.received_row, begun.check_only) == (9, True)
    assert counts(checked) == (17, 1, 2)
    assert report(register, ID) == [
        (4, "identifier", "DUPLICATE_ROW"),
        (20, "identifier", "INVALID_IDENTIFIER"),
    ]
    assert contents(database) == before
    assert counts(send(register, messages_of(import_id(), rows))) == (17, 1, 2)


def test_an_import_of_nothing_is_finished_at_once(register: Register) -> None:
    imported = send(register, [message(last=True)])

    assert (imported.state, imported.received_row, counts(imported)) == (FINISHED, 0, (0, 0, 0))


GOOD = pb.ImportRow(row=1, person=person(0, OLA))


@pytest.mark.parametrize(
    ("messages", "reason", "field"),
    [
        ([], "INVALID_FIELD", "import_id"),
        ([message(GOOD, id_="")], "INVALID_REQUEST_ID", "import_id"),
        ([message(GOOD, id_="1234")], "INVALID_REQUEST_ID", "import_id"),
        ([message(), message(GOOD, id_=import_id())], "INVALID_FIELD", "import_id"),
        ([message(), message(GOOD, check_only=True)], "INVALID_FIELD", "check_only"),
        ([message(*map(unreadable, range(1, 1002)))], "BATCH_SIZE", "rows"),
        ([message(GOOD, GOOD)], "INVALID_FIELD", "rows"),
        ([message(unreadable(2)), message(GOOD)], "INVALID_FIELD", "rows"),
        ([message(pb.ImportRow(row=0, person=GOOD.person))], "INVALID_FIELD", "rows"),
        ([message(pb.ImportRow(row=-1, person=GOOD.person))], "INVALID_FIELD", "rows"),
        ([message(pb.ImportRow(row=1))], "INVALID_FIELD", "rows"),
        ([message(unreadable(1, ""))], "INVALID_FIELD", "rows.unreadable_field"),
        ([message(unreadable(1, "a" * 65))], "INVALID_FIELD", "rows.unreadable_field"),
        ([message(unreadable(1, "Ola Nordmann"))], "INVALID_FIELD", "rows.unreadable_field"),
    ],
)
def test_what_no_import_can_be_is_refused_and_nobody_entered(
    rpcs: Rpcs,
    database: "psycopg.Connection[Any]",
    messages: Sequence[pb.ImportPersonsRequest],
    reason: str,
    field: str,
) -> None:
    assert refusal_of(rpcs, *messages) == (reason, (field,))
    assert not database.execute("SELECT FROM person").fetchall()


def test_later_messages_need_not_repeat_the_id_nor_that_nobody_is_entered(register: Register) -> None:
    first = message(GOOD, check_only=True)

    assert send(register, [first, pb.ImportPersonsRequest(rows=[unreadable(2)], last=True)]).check_only


def test_an_import_that_only_checks_cannot_go_on_as_one_that_enters(rpcs: Rpcs, register: Register) -> None:
    send(register, [message(GOOD, check_only=True)])

    assert refusal_of(rpcs, message(unreadable(2))) == ("INVALID_FIELD", ("check_only",))
    assert get_import(register, ID).received_row == 1


def test_a_finished_import_takes_no_more_rows(rpcs: Rpcs, register: Register) -> None:
    finished = send(register, [message(GOOD, last=True)])

    assert refusal_of(rpcs, message(GOOD, unreadable(2))) == ("IMPORT_FINISHED", ())
    assert refusal_of(rpcs, message(GOOD, last=True), message(unreadable(2))) == ("IMPORT_FINISHED", ())
    assert get_import(register, ID) == finished


def test_what_came_before_a_message_that_is_refused_stays_as_far_as_the_import_says(
    rpcs: Rpcs, register: Register, small_chunks: None
) -> None:
    rows = rows_of(some_persons(40))

    assert refusal_of(rpcs, message(*rows), message(rows[0])) == ("INVALID_FIELD", ("rows",))

    imported = get_import(register, ID)
    assert imported.received_row == imported.loaded_count == 35
    assert set(feed(register)) == {row.person.identifier for row in rows[:35]}
    assert counts(send(register, messages_of(ID, rows[35:]))) == (40, 0, 0)


def test_an_import_that_nothing_came_of_is_unknown(register: Register) -> None:
    for read in (get_import, report):
        with pytest.raises(RegisterError) as refused:
            read(register, ID)
        assert refused.value.reason == "UNKNOWN_IMPORT"


def test_the_log_tells_that_an_import_began_and_ended_and_nothing_of_its_rows(register: Register) -> None:
    rows = rows_of([*some_persons(5), spoilt_person(0, OLA)[0]])
    with capture_logs() as lines:
        send(register, messages_of(ID, rows))
        send(register, messages_of(ID, rows))

    begun = {"event": "import_begun", "import_id": ID, "check_only": False, "log_level": "info"}
    finished = begun | {"event": "import_finished", "loaded": 5, "present": 0, "rejected": 1}
    assert [line for line in lines if line["event"].startswith("import")] == [begun, finished]


def test_a_time_that_has_yet_to_come_is_rejected(register: Register) -> None:
    ahead = person(0, OLA)
    ahead.email.updated_time.GetCurrentTime()
    ahead.email.updated_time.seconds += 3600
    assert ahead.status == person_pb2.PERSON_STATUS_ACTIVE

    send(register, messages_of(ID, rows_of([ahead])))

    assert report(register, ID) == [(1, "email.updated_time", "INVALID_FIELD")]
