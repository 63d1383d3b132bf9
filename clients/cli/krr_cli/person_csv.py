"""Persons to load as rows of CSV, written and read."""

import csv
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import BinaryIO

from google.protobuf.message import Message
from krr.v1 import admin_service_pb2 as pb
from krr.v1 import person_pb2

from krr_cli.show import Enum, name
from krr_cli.timestamp_text import set_timestamp, timestamp_text

HEADER = (
    "identifier",
    "status",
    "reservation",
    "reservation_time",
    "language",
    "language_updated_time",
    "email",
    "email_updated_time",
    "email_confirmed_time",
    "email_validated_time",
    "mobile",
    "mobile_updated_time",
    "mobile_confirmed_time",
    "mobile_validated_time",
    "mailboxes",
    "chosen_operator",
)
_REQUIRED = ("identifier", "status", "reservation")
_WHOLE_ROW = "row"


class NotInCsv(Exception):
    """A field of a person holds what CSV has no place for; names the field, not what it holds."""


class NotAHeader(Exception):
    """The first line does not name the columns as it must; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class UnreadableField:
    """A row that is not a person.

    field: the path in krr.v1.PersonToLoad that is to blame, such as "email.updated_time";
        "row" for the whole row.
    """

    field: str


def csv_row(person: pb.PersonToLoad) -> list[str]:
    """The person's cells under HEADER.

    Raises NotInCsv: for a mailbox with a certificate of its own or with a space in its
    address, and for a value of an enum that this program does not know.
    """
    return [
        person.identifier,
        _enum_cell("status", _STATUSES, person.status),
        _enum_cell("reservation", _RESERVATIONS, person.reservation),
        timestamp_text(person.reservation_time) if person.HasField("reservation_time") else "",
        _enum_cell("language", _LANGUAGES, person.language),
        timestamp_text(person.language_updated_time) if person.HasField("language_updated_time") else "",
        *(_point_cells(person.email) if person.HasField("email") else _NO_POINT),
        *(_point_cells(person.mobile) if person.HasField("mobile") else _NO_POINT),
        " ".join(map(_mailbox_item, person.mailboxes)),
        person.chosen_operator_organisation_number,
    ]


def read_csv(stream: BinaryIO, after: int = 0) -> Iterator[tuple[int, pb.PersonToLoad | UnreadableField]]:
    """The persons in the stream, each with the number of the line on which its row begins; those
    that begin after the line `after`.

    The first line names the columns: those of HEADER, in any order, separated by commas or
    semicolons. identifier, status and reservation must be there. UTF-8, with or without a
    byte order mark.

    A row that cannot be read takes no other with it: where a quote was never closed, reading
    goes on with the next line.

    Raises NotAHeader, at the first row that is asked for.
    """
    lines = _Lines(stream)
    first = next(lines, "").removeprefix("\ufeff")
    delimiter = ";" if ";" in first and "," not in first else ","
    columns = _columns(first, delimiter)
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.begin_record()
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error:
            cells = None
        is_wanted = lines.record_begins > after
        if cells is not None and len(cells) == len(columns):
            if is_wanted:
                yield lines.record_begins, _person(columns, cells)
        elif cells != []:
            # No field may hold a line break, so a row of several lines is a quote too many.
            lines.give_back_all_but_first()
            if is_wanted:
                yield lines.record_begins, UnreadableField(_WHOLE_ROW)


class _Lines:
    """Lines of text, of which those of the last record can be given back."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._given_back: deque[str] = deque()
        self._of_record: list[str] = []
        self._number = 0
        self.record_begins = 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        # What is not UTF-8 is found where it is put into a person, and so in which field.
        line = (
            self._given_back.popleft()
            if self._given_back
            else next(self._stream).decode("utf-8", "surrogateescape")
        )
        self._number += 1
        self._of_record.append(line)
        return line

    def begin_record(self) -> None:
        self._of_record.clear()
        self.record_begins = self._number + 1

    def give_back_all_but_first(self) -> None:
        self._given_back.extendleft(reversed(self._of_record[1:]))
        self._number = self.record_begins


_Put = Callable[[pb.PersonToLoad, str], None]


def _columns(first: str, delimiter: str) -> list[tuple[str, _Put]]:
    try:
        [names] = csv.reader([first], delimiter=delimiter, strict=True)
    except (csv.Error, ValueError):
        names = []
    names = [each.strip() for each in names]
    if not set(HEADER) & set(names):
        # It may be a row, whose values are nobody's to show.
        raise NotAHeader("the first line must name the columns")
    if unknown := [_shown(place, each) for place, each in enumerate(names, start=1) if each not in HEADER]:
        raise NotAHeader(f"unknown columns: {', '.join(unknown)}")
    if missing := [each for each in _REQUIRED if each not in names]:
        raise NotAHeader(f"missing columns: {', '.join(missing)}")
    if twice := sorted({each for each in names if names.count(each) > 1}):
        raise NotAHeader(f"columns that stand twice: {', '.join(twice)}")
    return [_FIELDS[each] for each in names]


def _shown(place: int, column: str) -> str:
    return column if re.fullmatch(r"[A-Za-z_]{1,40}", column) else f"number {place}"


def _person(columns: list[tuple[str, _Put]], cells: list[str]) -> pb.PersonToLoad | UnreadableField:
    person = pb.PersonToLoad()
    for (field, put), cell in zip(columns, cells, strict=True):
        if cell:
            try:
                put(person, cell)
            except (KeyError, ValueError, OverflowError):
                return UnreadableField(field)
    return person


# Cells written


def _enum_cell(field: str, cells: dict[int, str], value: int) -> str:
    try:
        return cells[value]
    except KeyError:
        raise NotInCsv(field) from None


def _point_cells(point: person_pb2.ContactPoint) -> tuple[str, str, str, str]:
    return (
        point.value,
        timestamp_text(point.updated_time) if point.HasField("updated_time") else "",
        timestamp_text(point.confirmed_time) if point.HasField("confirmed_time") else "",
        timestamp_text(point.validated_time) if point.HasField("validated_time") else "",
    )


_NO_POINT = ("", "", "", "")


def _mailbox_item(mailbox: person_pb2.Mailbox) -> str:
    operator, address = mailbox.operator_organisation_number, mailbox.address
    if mailbox.certificate or " " in address or " " in operator or ":" in operator:
        raise NotInCsv("mailboxes")
    return f"{operator}:{address}"


def _put_mailboxes(person: pb.PersonToLoad, cell: str) -> None:
    for item in cell.split(" "):
        operator, colon, address = item.partition(":")
        if not colon:
            raise ValueError
        person.mailboxes.add(operator_organisation_number=operator, address=address)


# Enums: the cell of each value, and the columns


def _cells(enum: Enum, values: Iterable[int]) -> dict[int, str]:
    return {value: name(enum, value) for value in values}


_STATUSES = _cells(person_pb2.PersonStatus, person_pb2.PersonStatus.values())
_RESERVATIONS = _cells(person_pb2.Reservation, person_pb2.Reservation.values())
_LANGUAGES = {
    value: cell.lower() for value, cell in _cells(person_pb2.Language, person_pb2.Language.values()).items()
}


def _text(attribute: str, of: Callable[[pb.PersonToLoad], Message] = lambda person: person) -> _Put:
    return lambda person, cell: setattr(of(person), attribute, cell)


def _one_of(attribute: str, cells: dict[int, str]) -> _Put:
    values = {
        written: value for value, cell in cells.items() for written in (cell, cell.lower(), cell.upper())
    }
    return lambda person, cell: setattr(person, attribute, values[cell])


def _time(path: str) -> _Put:
    time_of = attrgetter(path)
    return lambda person, cell: set_timestamp(time_of(person), cell)


_EMAIL, _MOBILE = attrgetter("email"), attrgetter("mobile")

# By column: which field of krr.v1.PersonToLoad it is, and what puts a cell there.
_FIELDS: dict[str, tuple[str, _Put]] = {
    "identifier": ("identifier", _text("identifier")),
    "status": ("status", _one_of("status", _STATUSES)),
    "reservation": ("reservation", _one_of("reservation", _RESERVATIONS)),
    "reservation_time": ("reservation_time", _time("reservation_time")),
    "language": ("language", _one_of("language", _LANGUAGES)),
    "language_updated_time": ("language_updated_time", _time("language_updated_time")),
    "email": ("email.value", _text("value", _EMAIL)),
    "email_updated_time": ("email.updated_time", _time("email.updated_time")),
    "email_confirmed_time": ("email.confirmed_time", _time("email.confirmed_time")),
    "email_validated_time": ("email.validated_time", _time("email.validated_time")),
    "mobile": ("mobile.value", _text("value", _MOBILE)),
    "mobile_updated_time": ("mobile.updated_time", _time("mobile.updated_time")),
    "mobile_confirmed_time": ("mobile.confirmed_time", _time("mobile.confirmed_time")),
    "mobile_validated_time": ("mobile.validated_time", _time("mobile.validated_time")),
    "mailboxes": ("mailboxes", _put_mailboxes),
    "chosen_operator": (
        "chosen_operator_organisation_number",
        _text("chosen_operator_organisation_number"),
    ),
}
