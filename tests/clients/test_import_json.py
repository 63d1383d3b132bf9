"""Reading persons from JSON lines gives what protobuf's own JSON gives, and names what it cannot read."""

import io
import json
import re
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, MessageToJson, ParseDict, ParseError
from hypothesis import example, given, settings
from hypothesis import strategies as st
from krr.v1 import admin_service_pb2 as pb
from krr.v1 import person_pb2
from krr_cli.person_csv import UnreadableField
from krr_cli.person_json import read_json_lines

from tests.people import DIGIPOST, OLA

Read = pb.PersonToLoad | UnreadableField


def read(content: bytes, after: int = 0) -> list[tuple[int, Read]]:
    return list(read_json_lines(io.BytesIO(content), after))


def read_one(fields: Any) -> Read:
    [(line, person)] = read(json.dumps(fields).encode())
    assert line == 1
    return person


TEXT = st.text(max_size=5)
TIME_TEXT = st.one_of(
    st.datetimes().map(lambda time: f"{time.isoformat()}Z"),
    st.datetimes().map(lambda time: f"{time.isoformat()}+01:00"),
    st.from_regex(r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)\Z"),
    st.sampled_from(
        [
            "2024-02-30T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01 00:00:00Z",
            "2024-01-01T00:00:00",
            "Z",
            "",
        ]
    ),
)
# What stands where something else should.
OTHER = st.one_of(st.none(), st.integers(), st.floats(), TEXT, st.lists(TEXT, max_size=2), st.just({}))


def mostly(right: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(right, right, right, OTHER)


def name_of(enum: Any) -> st.SearchStrategy[Any]:
    return st.one_of(st.sampled_from(enum.keys()), st.sampled_from(enum.values()))


POINT = st.fixed_dictionaries(
    {},
    optional={
        "value": mostly(TEXT),
        "updated_time": mostly(TIME_TEXT),
        "confirmed_time": mostly(TIME_TEXT),
        "validatedTime": mostly(TIME_TEXT),
        "usable_until_time": mostly(TIME_TEXT),
        "shared": st.one_of(st.booleans(), OTHER),
    },
)
BOX = st.fixed_dictionaries(
    {},
    optional={
        "operator_organisation_number": mostly(TEXT),
        "address": mostly(TEXT),
        "certificate": st.sampled_from(["YQ==", "YQ", "!", 1]),
    },
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "identifier": mostly(TEXT),
        "status": mostly(name_of(person_pb2.PersonStatus)),
        "reservation": mostly(name_of(person_pb2.Reservation)),
        "reservation_time": mostly(TIME_TEXT),
        "reservationTime": mostly(TIME_TEXT),
        "language": mostly(name_of(person_pb2.Language)),
        "language_updated_time": mostly(TIME_TEXT),
        "email": mostly(POINT),
        "mobile": mostly(POINT),
        "mailboxes": mostly(st.lists(mostly(BOX), max_size=3)),
        "chosen_operator_organisation_number": mostly(TEXT),
        "age_days": st.integers(),
    },
)


@settings(max_examples=500)
@given(FIELDS)
@example({"mailboxes": {}})
@example({"email": {"shared": 1}})
@example({"email": []})
@example({"identifier": "\ud800"})
@example({"status": 2**40})
@example({"status": float("inf")})
@example({"mailboxes": [None]})
def test_a_line_is_read_as_protobuf_reads_it_or_not_at_all(fields: dict[str, Any]) -> None:
    try:
        expected = ParseDict(fields, pb.PersonToLoad())
    # Protobuf itself fails on some, such as an infinite enum.
    except (ParseError, ValueError, TypeError, AttributeError, OverflowError):
        assert isinstance(read_one(fields), UnreadableField)
    else:
        assert read_one(fields) == expected


FULL = ParseDict(
    {
        "identifier": OLA,
        "status": "PERSON_STATUS_ACTIVE",
        "reservation": "RESERVATION_NOT_RESERVED",
        "reservation_time": "2024-01-02T03:04:05Z",
        "language": "LANGUAGE_SE",
        "language_updated_time": "2024-01-02T03:04:05.678Z",
        "email": {"value": "ola@example.com", "updated_time": "2024-01-02T03:04:05.000001Z"},
        "mobile": {
            "value": "+4791234567",
            "updated_time": "2024-01-02T03:04:05+02:00",
            "confirmed_time": "2024-01-02T03:04:05.123456789Z",
            "validated_time": "2024-12-31T23:59:59Z",
        },
        "mailboxes": [
            {"operator_organisation_number": DIGIPOST, "address": "æ.nordmann#9YDT", "certificate": "YQ=="}
        ],
        "chosen_operator_organisation_number": DIGIPOST,
    },
    pb.PersonToLoad(),
)


@pytest.mark.parametrize("camel_case", [True, False])
def test_what_protobuf_writes_is_read_again(camel_case: bool) -> None:
    line = MessageToJson(
        FULL, indent=None, preserving_proto_field_name=not camel_case, ensure_ascii=camel_case
    )
    assert read(line.encode()) == [(1, FULL)]


@pytest.mark.parametrize(
    ("fields", "blamed"),
    [
        ({"identifier": 11822648950}, "identifier"),
        ({"identifier": OLA, "status": "ALIVE"}, "status"),
        ({"reservationTime": "yesterday"}, "reservation_time"),
        ({"email": "ola@example.com"}, "email"),
        ({"email": {"value": "x", "updated_time": "2024-13-01T00:00:00Z"}}, "email.updated_time"),
        ({"mobile": {"telephone": "x"}}, "mobile"),
        ({"mailboxes": [{"address": "x"}, {"address": 1}]}, "mailboxes[1].address"),
        ({"mailboxes": [{}, "x"]}, "mailboxes[1]"),
        ({"mailboxes": {"address": "x"}}, "mailboxes"),
        ({"mailboxes": [{"certificate": "A"}]}, "mailboxes[0].certificate"),
        # Names that are not the contract's may be anybody's.
        ({"age_days": 3}, "row"),
        ({OLA: "x"}, "row"),
        ([], "row"),
        ("x", "row"),
        (None, "row"),
    ],
)
def test_the_field_to_blame_is_named_and_nothing_that_stands_in_it(fields: Any, blamed: str) -> None:
    assert read_one(fields) == UnreadableField(blamed)


@pytest.mark.parametrize(
    "line",
    [b"{", b"\xff", b'{"identifier": "\xff"}', b"[" * 50_000, b"9" * 5000, b"x"],
)
def test_what_is_no_json_is_a_row_that_cannot_be_read(line: bytes) -> None:
    assert read(line) == [(1, UnreadableField("row"))]


def test_an_endless_line_takes_no_other_with_it() -> None:
    whole = json.dumps(MessageToDict(FULL)).encode()
    for length in (99_999, 100_000, 100_001, 200_000, 250_000):
        read_ = read(b"\n".join([whole, b" " * (length - 1) + b"{", whole]))
        assert read_ == [(1, FULL), (2, UnreadableField("row")), (3, FULL)]


def test_blank_lines_and_a_byte_order_mark_are_skipped_and_lines_counted() -> None:
    whole = json.dumps(MessageToDict(FULL)).encode()
    content = b"\xef\xbb\xbf" + whole + b"\r\n\n  \n" + whole
    assert read(content) == [(1, FULL), (4, FULL)]


@given(st.binary(max_size=200), st.integers(0, 5))
def test_any_file_is_read_from_any_line_on_as_from_the_first(content: bytes, after: int) -> None:
    everything = read(content)

    assert read(content, after) == [(line, person) for line, person in everything if line > after]
    for _, person in everything:
        if isinstance(person, UnreadableField):
            assert re.fullmatch(r"[a-z0-9_.\[\]]{1,64}", person.field)
