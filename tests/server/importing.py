"""Files of persons to import, and what must hold of the register after an import."""

import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import psycopg
from krr.v1 import admin_service_pb2 as pb
from krr.v1 import error_reason_pb2, person_import_pb2, person_pb2, register_service_pb2

from tests.conftest import Register
from tests.people import DIGIPOST, EBOKS, synthetic_identifiers
from tests.server.valid_requests import time_ago

PersonImport = person_import_pb2.PersonImport
RECEIVING, FINISHED = person_import_pb2.IMPORT_STATE_RECEIVING, person_import_pb2.IMPORT_STATE_FINISHED
LONG_AGO = time_ago(days=30)

# How to spoil a person, and what the report then says.
PLANTED: Sequence[tuple[dict[str, Any], str, str]] = (
    ({"identifier": "11822648951"}, "identifier", "INVALID_IDENTIFIER"),
    ({"status": person_pb2.PERSON_STATUS_NOT_REGISTERED}, "status", "INVALID_FIELD"),
    ({"reservation": person_pb2.RESERVATION_UNSPECIFIED}, "reservation", "INVALID_FIELD"),
    ({"email": person_pb2.ContactPoint(value="@", updated_time=LONG_AGO)}, "email.value", "INVALID_EMAIL"),
    ({"email": person_pb2.ContactPoint(value="a@example.com")}, "email.updated_time", "INVALID_FIELD"),
    (
        {"mobile": person_pb2.ContactPoint(value="+4722222222", updated_time=LONG_AGO)},
        "mobile.value",
        "NOT_A_MOBILE",
    ),
    (
        {"mailboxes": [person_pb2.Mailbox(operator_organisation_number="991825827", address="12345678")]},
        "mailboxes[0].operator_organisation_number",
        "UNKNOWN_OPERATOR",
    ),
    (
        {"mailboxes": [person_pb2.Mailbox(operator_organisation_number=EBOKS, address="short")]},
        "mailboxes[0].address",
        "INVALID_MAILBOX_ADDRESS",
    ),
    ({"status": person_pb2.PERSON_STATUS_DELETED}, "row", "INVALID_FIELD"),
)


def import_id() -> str:
    """A fresh import's id."""
    return str(uuid.uuid4())


def some_identifiers(count: int) -> list[str]:
    return list(islice(synthetic_identifiers(), count))


def person(index: int, identifier: str, **fields: Any) -> pb.PersonToLoad:
    """A person; those of near indices differ, and every third shares an e-mail address with others."""
    if index % 11 == 10 and not fields:
        return pb.PersonToLoad(identifier=identifier, status=person_pb2.PERSON_STATUS_DELETED)
    operators = [(), (DIGIPOST,), (EBOKS, DIGIPOST)][index % 3]
    boxes = [
        person_pb2.Mailbox(operator_organisation_number=each, address=f"person-{index}-{each}")
        for each in operators
    ]
    given: dict[str, Any] = {
        "status": person_pb2.PERSON_STATUS_ACTIVE,
        "reservation": (
            person_pb2.RESERVATION_RESERVED if index % 7 == 6 else person_pb2.RESERVATION_NOT_RESERVED
        ),
        "reservation_time": LONG_AGO,
        "language": person_pb2.LANGUAGE_NN,
        "language_updated_time": LONG_AGO,
        "email": person_pb2.ContactPoint(
            value=f"person-{index // 5 if index % 3 == 0 else index}@example.com",
            updated_time=LONG_AGO,
            validated_time=LONG_AGO,
        ),
        "mobile": person_pb2.ContactPoint(value=f"+4791{index:06}", updated_time=LONG_AGO),
        "mailboxes": boxes,
        "chosen_operator_organisation_number": operators[index % 2] if operators[1:] else "",
    }
    return pb.PersonToLoad(**{"identifier": identifier, **given, **fields})


def spoilt_person(index: int, identifier: str) -> tuple[pb.PersonToLoad, str, str]:
    """A person who is refused; the field and the reason that stand in the report."""
    fields, field, reason = PLANTED[index % len(PLANTED)]
    return person(index, **{"identifier": identifier, **fields}), field, reason


def rows_of(persons: Iterable[pb.PersonToLoad], first: int = 1) -> list[pb.ImportRow]:
    return [pb.ImportRow(row=row, person=each) for row, each in enumerate(persons, first)]


def messages_of(
    id_: str, rows: Sequence[pb.ImportRow], size: int = 100, *, last: bool = True, check_only: bool = False
) -> Iterator[pb.ImportPersonsRequest]:
    """The rows in messages; the last of them says so."""
    starts = range(0, max(len(rows), 1), size)
    for start in starts:
        yield pb.ImportPersonsRequest(
            import_id=id_,
            rows=rows[start : start + size],
            last=last and start == starts[-1],
            check_only=check_only,
        )


def send(register: Register, messages: Iterable[pb.ImportPersonsRequest]) -> PersonImport:
    answer = register.as_administrator().ImportPersons(iter(messages))
    return imported_in(answer)


def imported_in(answer: Any) -> PersonImport:
    """The import in an answer, whose field has the name of a word of Python."""
    found: PersonImport = getattr(answer, "import")
    return found


def get_import(register: Register, id_: str) -> PersonImport:
    request = person_import_pb2.GetImportRequest(import_id=id_)
    return imported_in(register.as_administrator().GetImport(request))


def report(register: Register, id_: str, page_size: int = 0) -> list[tuple[int, str, str]]:
    """Row, field and reason of each rejection."""
    request = person_import_pb2.ListImportRejectionsRequest(import_id=id_, page_size=page_size)
    found = []
    while True:
        page = register.as_administrator().ListImportRejections(request)
        found += [(each.row, each.field, _name(each.reason)) for each in page.rejections]
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


def _name(reason: "error_reason_pb2.ErrorReason.ValueType") -> str:
    return error_reason_pb2.ErrorReason.Name(reason).removeprefix("ERROR_REASON_")


def feed(register: Register, page_size: int = 1000) -> dict[str, person_pb2.Person]:
    """Everybody, as a reader from the start has them in the end."""
    copy: dict[str, person_pb2.Person] = {}
    request = register_service_pb2.ListChangesRequest(page_size=page_size)
    while True:
        page = register.as_public_body().ListChanges(request)
        copy |= {each.identifier: each for each in page.persons}
        if page.caught_up:
            return copy
        request.after_cursor = page.cursor


def some_persons(count: int) -> list[pb.PersonToLoad]:
    """Different persons, the same ones each time."""
    return [person(index, each) for index, each in enumerate(some_identifiers(count))]


def wait_for_flags(database: "psycopg.Connection[Any]") -> None:
    """Return when who shares contact info is counted."""
    ends = time.monotonic() + 10
    while database.execute("SELECT FROM shared_recount").fetchall():
        assert time.monotonic() < ends
        time.sleep(0.02)


def counts(imported: PersonImport) -> tuple[int, int, int]:
    """How many were entered, present and rejected."""
    return imported.loaded_count, imported.present_count, imported.rejected_count


def faults(database: "psycopg.Connection[Any]") -> dict[str, Any]:
    """What is wrong in the register; empty if nothing is."""
    found = {name: database.execute(query).fetchall() for name, query in _FAULTS.items()}
    return {name: rows for name, rows in found.items() if rows}


_FAULTS = {
    "persons whose encoded form is missing or of another change": """
        SELECT change_number FROM person
        WHERE encoded IS NULL OR substr(encoded, 1, 8) <> int8send(change_number)
    """,
    "change numbers that were taken for nothing": """
        SELECT generate_series(1, last_change_number) FROM register
        EXCEPT SELECT change_number FROM person
        EXCEPT SELECT change_number FROM history
        EXCEPT SELECT generate_series(first_change_number, last_change_number) FROM person_import_chunk
    """,
    "change numbers beyond the counter": """
        SELECT change_number FROM person, register WHERE change_number > last_change_number
    """,
    "persons who had no other change and are in no chunk": """
        SELECT change_number FROM person WHERE NOT EXISTS (SELECT FROM history WHERE person_id = person.id)
          AND NOT EXISTS (SELECT FROM person_import_chunk
                          WHERE change_number BETWEEN first_change_number AND last_change_number)
    """,
    "imports whose chunks do not hold as many as were entered": """
        SELECT id FROM person_import WHERE NOT check_only AND loaded_count <> (
            SELECT coalesce(sum(last_change_number - first_change_number + 1), 0)
            FROM person_import_chunk WHERE import_id = id)
    """,
    "imports whose report has another length": """
        SELECT id FROM person_import WHERE rejected_count <> (
            SELECT count(*) FROM person_import_rejection WHERE import_id = id)
    """,
    "mailboxes that the operators' feed lacks": """
        SELECT person_id FROM mailbox LEFT JOIN mailbox_change USING (person_id, operator)
        WHERE change_number IS NULL
    """,
    "shared flags": """
        SELECT change_number FROM (
            SELECT *, count(*) OVER (PARTITION BY lower(email)) AS of_email,
                count(*) OVER (PARTITION BY mobile) AS of_mobile FROM person) AS counted
        WHERE email_shared <> (email IS NOT NULL AND of_email > 1)
           OR mobile_shared <> (mobile IS NOT NULL AND of_mobile > 1)
    """,
}
