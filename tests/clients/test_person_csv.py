"""Persons as rows of CSV, and back."""

import csv
import io
from collections.abc import Iterable
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from krr.v1 import admin_service_pb2 as pb
from krr.v1 import person_pb2
from krr_cli.person_csv import HEADER, NotAHeader, NotInCsv, UnreadableField, csv_row, read_csv
from krr_cli.timestamp_text import set_timestamp, timestamp_text

from tests.people import DIGIPOST, EBOKS, KARI, NIELS, OLA

# As protobuf has it: the years 1 to 9999.
TIMES = st.builds(
    Timestamp,
    seconds=st.integers(-62_135_596_800, 253_402_300_799),
    nanos=st.one_of(st.just(0), st.integers(0, 999_999_999)),
)
# Strings of the contract hold no control characters (Cc); and no text holds half a surrogate.
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=" "), max_size=20)


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


def points() -> st.SearchStrategy[person_pb2.ContactPoint]:
    point = st.builds(
        person_pb2.ContactPoint,
        value=TEXTS,
        updated_time=maybe(TIMES),
        confirmed_time=maybe(TIMES),
        validated_time=maybe(TIMES),
    )
    # CSV does not tell a contact point without anything in it from none.
    return point.filter(lambda each: each != person_pb2.ContactPoint())


PERSONS = st.builds(
    pb.PersonToLoad,
    identifier=TEXTS,
    status=st.sampled_from(person_pb2.PersonStatus.values()),
    reservation=st.sampled_from(person_pb2.Reservation.values()),
    reservation_time=maybe(TIMES),
    language=st.sampled_from(person_pb2.Language.values()),
    language_updated_time=maybe(TIMES),
    email=maybe(points()),
    mobile=maybe(points()),
    mailboxes=st.lists(
        st.builds(
            person_pb2.Mailbox,
            operator_organisation_number=WORDS.map(lambda text: text.replace(":", "")),
            address=WORDS,
        ),
        max_size=3,
    ),
    chosen_operator_organisation_number=TEXTS,
)


def written(persons: Iterable[pb.PersonToLoad]) -> bytes:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(HEADER)
    rows.writerows(map(csv_row, persons))
    return text.getvalue().encode()


def read(text: bytes | str) -> list[tuple[int, pb.PersonToLoad | UnreadableField]]:
    return list(read_csv(io.BytesIO(text if isinstance(text, bytes) else text.encode())))


def unreadable(text: bytes | str) -> list[tuple[int, str]]:
    return [(line, found.field) for line, found in read(text) if isinstance(found, UnreadableField)]


def identifiers(text: bytes | str) -> list[tuple[int, str]]:
    return [(line, found.identifier) for line, found in read(text) if isinstance(found, pb.PersonToLoad)]


@given(st.lists(PERSONS, max_size=4))
def test_what_is_written_is_read_again(persons: list[pb.PersonToLoad]) -> None:
    assert [person for _, person in read(written(persons))] == persons


@given(TIMES)
def test_a_time_is_written_as_protobuf_writes_it_and_read_to_the_nanosecond(time: Timestamp) -> None:
    again = Timestamp()
    set_timestamp(again, timestamp_text(time))

    assert timestamp_text(time) == time.ToJsonString()
    assert again == time


@given(
    st.from_regex(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})",
        fullmatch=True,
    )
    | st.text()
)
def test_what_is_read_as_a_time_is_what_protobuf_reads(text: str) -> None:
    time, by_protobuf = Timestamp(), Timestamp()
    try:
        set_timestamp(time, text)
    except ValueError as error:
        assert len(text) < 10 or text not in str(error)
        return
    by_protobuf.FromJsonString(text)
    assert time == by_protobuf


@pytest.mark.parametrize(
    ("text", "seconds", "nanos"),
    [
        ("2026-11-22T10:00:05Z", 1795341605, 0),
        ("2026-11-22T10:00:05.25Z", 1795341605, 250_000_000),
        ("2026-11-22T12:00:05+02:00", 1795341605, 0),
        ("2026-11-22T09:30:05.000000001-00:30", 1795341605, 1),
        ("1970-01-01T00:00:00Z", 0, 0),
    ],
)
def test_times_of_rfc_3339_are_read(text: str, seconds: int, nanos: int) -> None:
    time = Timestamp()
    set_timestamp(time, text)

    assert (time.seconds, time.nanos) == (seconds, nanos)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22",
        "2026-11-22T10:00:05",
        "2026-11-22 10:00:05Z",
        "20261122T100005Z",
        "2026-W47-7T10:00:05Z",
        "2026-02-30T10:00:05Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T10:60:00Z",
        "2026-11-22T10:00:60Z",
        "2026-11-22T10:00:05.1234567890Z",
        "2026-11-22T10:00:05+24:00",
        "0001-01-01T00:00:00+00:01",
        "٢026-11-22T10:00:05Z",
        "2026-11-22T+1:00:05Z",
        "22.11.2026 10:00",
    ],
)
def test_what_is_no_such_time_is_the_unreadable_field(text: str) -> None:
    rows = f"identifier,status,reservation,reservation_time\n{OLA},ACTIVE,RESERVED,{text}\n"

    assert unreadable(rows) == [(2, "reservation_time")]


def test_columns_stand_in_any_order_and_those_that_need_not_be_there_may_be_missing() -> None:
    [(line, person)] = read(
        f"chosen_operator,mobile,reservation,status,language,mailboxes,identifier\n"
        f"{EBOKS},+4799999907,reserved,active,NB,{DIGIPOST}:ola:1#9YDT {EBOKS}:ola.nordmann,{OLA}\n"
    )

    assert line == 2
    assert person == pb.PersonToLoad(
        identifier=OLA,
        status=person_pb2.PERSON_STATUS_ACTIVE,
        reservation=person_pb2.RESERVATION_RESERVED,
        language=person_pb2.LANGUAGE_NB,
        mobile=person_pb2.ContactPoint(value="+4799999907"),
        mailboxes=[
            person_pb2.Mailbox(operator_organisation_number=DIGIPOST, address="ola:1#9YDT"),
            person_pb2.Mailbox(operator_organisation_number=EBOKS, address="ola.nordmann"),
        ],
        chosen_operator_organisation_number=EBOKS,
    )


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_what_spreadsheets_write_is_read(mark: bytes, end: str, delimiter: str) -> None:
    rows = [
        ["identifier", "status", "reservation", "email"],
        [OLA, "ACTIVE", "RESERVED", '"a,b;c"@example.com'],
    ]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows(rows)
    [(_, person)] = read(mark + text.getvalue().encode())

    assert isinstance(person, pb.PersonToLoad)
    assert (person.identifier, person.email.value) == (OLA, '"a,b;c"@example.com')


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("identifier,status,reservation,e_mail,phone", "unknown columns: e_mail, phone"),
        ("identifier,email", "missing columns: status, reservation"),
        ("identifier,status,reservation,email,email", "columns that stand twice: email"),
        ("identifier,status,reservation,", "unknown columns: number 4"),
        ("", "the first line must name the columns"),
        ('"identifier', "the first line must name the columns"),
        ("identifier|status|reservation", "the first line must name the columns"),
    ],
)
def test_a_header_that_cannot_be_is_refused_with_what_is_wrong(header: str, says: str) -> None:
    with pytest.raises(NotAHeader) as refused:
        read(f"{header}\n{OLA},ACTIVE,RESERVED,,\n")

    assert str(refused.value) == says


@pytest.mark.parametrize("more", ["", ",status"])
def test_a_file_without_a_header_is_refused_without_saying_what_it_holds(more: str) -> None:
    with pytest.raises(NotAHeader) as refused:
        read(f"{OLA},ACTIVE,RESERVED,ola@example.com{more}\n")

    assert OLA not in str(refused.value)
    assert "ola@" not in str(refused.value)


@pytest.mark.parametrize(
    ("column", "cell", "field"),
    [
        ("status", "Aktiv", "status"),
        ("reservation", "NEI", "reservation"),
        ("language", "no", "language"),
        ("language_updated_time", "yesterday", "language_updated_time"),
        ("email_updated_time", "0", "email.updated_time"),
        ("mobile_confirmed_time", "1795341605", "mobile.confirmed_time"),
        ("mailboxes", "ola.nordmann#9YDT", "mailboxes"),
        ("mailboxes", f"{DIGIPOST}:ola.nordmann  {EBOKS}:ola", "mailboxes"),
    ],
)
def test_a_cell_that_cannot_be_read_names_its_field_and_spoils_no_other_row(
    column: str, cell: str, field: str
) -> None:
    given = {"identifier": OLA, "status": "ACTIVE", "reservation": "RESERVED"}
    header = dict.fromkeys([*given, column])
    bad = given | {column: cell}
    good = given | {"identifier": KARI}
    rows = [",".join(header), *(",".join(row.get(each, "") for each in header) for row in (bad, good))]
    text = "\n".join(rows)

    assert unreadable(text) == [(2, field)]
    assert identifiers(text) == [(3, KARI)]


def test_a_cell_that_is_not_utf_8_is_an_unreadable_field() -> None:
    text = (
        b"identifier,status,reservation,email\n" + f"{OLA},ACTIVE,RESERVED,".encode() + b"\xe5@example.com\n"
    )

    assert unreadable(text) == [(2, "email.value")]


HEAD = "identifier,status,reservation,email\n"


def row(identifier: str, email: str = "") -> str:
    return f"{identifier},ACTIVE,RESERVED,{email}\n"


def test_a_row_is_named_by_the_line_on_which_it_begins() -> None:
    text = HEAD + row(OLA, '"two\nlines"') + "\n" + row(KARI) + row(NIELS)

    assert identifiers(text) == [(2, OLA), (5, KARI), (6, NIELS)]


@pytest.mark.parametrize(
    "bad", ["{},ACTIVE,RESERVED", "{},ACTIVE,RESERVED,,", '{},ACTIVE,RESERVED,"a"b', "{}"]
)
def test_a_row_of_other_length_or_with_a_stray_quote_is_unreadable_as_a_whole(bad: str) -> None:
    text = HEAD + row(OLA) + bad.format(KARI) + "\n" + row(NIELS)

    assert unreadable(text) == [(3, "row")]
    assert identifiers(text) == [(2, OLA), (4, NIELS)]


def test_a_quote_that_is_never_closed_takes_its_own_row_only() -> None:
    # More than csv takes as one field, and then up to the end of the file.
    many = "".join(row(f"{number:011}") for number in range(10_000))
    text = HEAD + row(OLA, '"open') + many + row(KARI, '"open') + row(NIELS)
    taken = [identifier for _, identifier in identifiers(text)]

    assert unreadable(text) == [(2, "row"), (10_003, "row")]
    assert taken == [*(f"{number:011}" for number in range(10_000)), NIELS]
    assert identifiers(text)[-1] == (10_004, NIELS)


def test_a_quote_that_is_closed_rows_later_takes_its_own_row_only() -> None:
    text = HEAD + row(OLA, '"open') + row(KARI) + row(NIELS, '"quoted"')

    assert unreadable(text) == [(2, "row")]
    assert identifiers(text) == [(3, KARI), (4, NIELS)]


@pytest.mark.parametrize(
    ("person", "field"),
    [
        (pb.PersonToLoad(mailboxes=[person_pb2.Mailbox(address="a", certificate=b"x")]), "mailboxes"),
        (pb.PersonToLoad(mailboxes=[person_pb2.Mailbox(address="ola nordmann")]), "mailboxes"),
        (pb.PersonToLoad(language=99), "language"),  # type: ignore[arg-type]  # of a newer register
    ],
    ids=["a certificate", "a space", "an unknown value"],
)
def test_what_csv_has_no_place_for_is_refused_by_the_name_of_its_field(
    person: pb.PersonToLoad, field: str
) -> None:
    with pytest.raises(NotInCsv) as refused:
        csv_row(person)

    assert str(refused.value) == field
