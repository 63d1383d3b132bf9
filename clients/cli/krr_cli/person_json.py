"""Persons to load as lines of JSON."""

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from google.protobuf.descriptor import Descriptor
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from krr.v1 import admin_service_pb2 as pb
from krr.v1 import person_pb2

from krr_cli.person_csv import UnreadableField
from krr_cli.timestamp_text import set_timestamp

# Some times what a person with two certificates takes.
_LONGEST_LINE = 100_000
_WHOLE_ROW = "row"
_UTF_8_MARK = b"\xef\xbb\xbf"

_ENUMS: dict[str, dict[str, Any]] = {
    "status": dict(person_pb2.PersonStatus.items()),
    "reservation": dict(person_pb2.Reservation.items()),
    "language": dict(person_pb2.Language.items()),
}
_TIMES = ("reservation_time", "language_updated_time")
_TIMES_OF_POINT = ("updated_time", "confirmed_time", "validated_time", "usable_until_time")
_QUICK_OF_POINT = frozenset(("value", *_TIMES_OF_POINT))

# What the two ways of reading raise for what they cannot read.
_NOT_QUICK = (KeyError, ValueError, TypeError, AttributeError)
_NOT_A_PERSON = (ParseError, ValueError, TypeError, AttributeError, OverflowError)


def read_json_lines(
    stream: BinaryIO, after: int = 0
) -> Iterator[tuple[int, pb.PersonToLoad | UnreadableField]]:
    """The persons in the stream, each with the number of its line, those after the line `after`.

    A line is a krr.v1.PersonToLoad in protobuf's JSON: field names as in the contract or in
    lowerCamelCase; UTF-8, with or without a byte order mark. Blank lines are skipped.
    """
    number = 0
    while line := stream.readline(_LONGEST_LINE):
        number += 1
        is_whole = True
        rest = line
        while len(rest) == _LONGEST_LINE and not rest.endswith(b"\n"):
            rest = stream.readline(_LONGEST_LINE)
            is_whole = False
        if number <= after:
            continue
        if not is_whole:
            yield number, UnreadableField(_WHOLE_ROW)
        elif line.strip():
            yield number, _person(line)


def _person(line: bytes) -> pb.PersonToLoad | UnreadableField:
    try:
        text = line.removeprefix(_UTF_8_MARK).decode()
        try:
            return _quickly(json.loads(text))
        except _NOT_QUICK:
            fields = json.loads(text)
    except (ValueError, RecursionError):
        return UnreadableField(_WHOLE_ROW)
    if not isinstance(fields, dict):
        return UnreadableField(_WHOLE_ROW)
    try:
        return ParseDict(fields, pb.PersonToLoad())
    except _NOT_A_PERSON:
        return UnreadableField(_blamed(fields, pb.PersonToLoad.DESCRIPTOR) or _WHOLE_ROW)


def _quickly(fields: dict[str, Any]) -> pb.PersonToLoad:
    """The person, in a fraction of the time that json_format takes, where all is as it mostly is.

    Raises one of _NOT_QUICK for all else, which json_format may still be able to read. Changes fields.
    """
    for name, values in _ENUMS.items():
        if (value := fields.get(name)) is not None:
            fields[name] = values[value]
    _read_times(fields, _TIMES)
    for point in (fields.get("email"), fields.get("mobile")):
        if point:
            _read_times(point, _TIMES_OF_POINT)
            if not point.keys() <= _QUICK_OF_POINT:
                raise ValueError
    # The constructor takes more than a list.
    if not isinstance(fields.get("mailboxes", []), list):
        raise ValueError
    return pb.PersonToLoad(**fields)


def _read_times(fields: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if (text := fields.get(name)) is not None:
            fields[name] = time = Timestamp()
            set_timestamp(time, text)


def _blamed(fields: dict[str, Any], message: Descriptor) -> str:
    """Path of the first field that cannot be read; "" where the contract has no name for it."""
    for name, value in fields.items():
        if _is_readable({name: value}, message):
            continue
        field = message.fields_by_name.get(name) or message.fields_by_camelcase_name.get(name)
        if field is None:
            return ""
        path = field.name
        if field.is_repeated and isinstance(value, list):
            place = next(i for i, each in enumerate(value) if not _is_readable({name: [each]}, message))
            path, value = f"{path}[{place}]", value[place]
        if field.message_type and isinstance(value, dict):
            inner = _blamed(value, field.message_type)
            return f"{path}.{inner}" if inner else path
        return path
    return ""


def _is_readable(fields: dict[str, Any], message: Descriptor) -> bool:
    try:
        ParseDict(fields, GetMessageClass(message)())
    except _NOT_A_PERSON:
        return False
    return True
