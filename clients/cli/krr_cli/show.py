"""How answers are shown: JSON for machines, tables for people."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC
from typing import Any, Protocol

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from krr.v1 import person_pb2
from rich import box
from rich.console import Console
from rich.table import Table

OPERATORS = {"digipost": "984661185", "eboks": "922020175"}

# What the register holds is text, never markup. Wide where nobody looks: a script that
# reads tables all the same must not find them folded.
_WIDTH_WITHOUT_TERMINAL = 200


class Enum(Protocol):
    """An enum of the contract."""

    def Name(self, number: Any) -> str:
        """The name of a value."""


def print_json(message: Message, **more: object) -> None:
    """Print json_line()."""
    typer.echo(json_line(message, **more))


def json_line(message: Message, **more: object) -> str:
    """A message on one line, with the contract's field names, and more fields than it has."""
    fields = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return json.dumps(fields | more, ensure_ascii=False)


def print_write(answer: person_pb2.WriteAnswer, as_json: bool) -> None:
    """Print what a write did."""
    if as_json:
        print_json(answer)
        return
    result = name(person_pb2.WriteResult, answer.result).lower()
    typer.echo(f"{result}; change number {answer.change_number}{again(answer.duplicate)}")


def again(duplicate: bool) -> str:
    """What a stored answer is marked with."""
    return " (the answer to an earlier call with this id)" if duplicate else ""


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, header: bool = True, err: bool = False
) -> None:
    """Print rows under their columns; without the header where it stands above already.

    err: to standard error.
    """
    console = Console(stderr=err, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDTH_WITHOUT_TERMINAL
    table = Table(*columns, box=box.SIMPLE, show_header=header)
    for row in rows:
        table.add_row(*row)
    # Rich's own printing ends the process with 1, a refusal, where nobody reads any more.
    with console.capture() as printed:
        console.print(table)
    typer.echo(printed.get(), nl=False, err=err)


def name(enum: Enum, value: int) -> str:
    """The name of an enum value without the enum's own; "" for the unspecified one."""
    if value == 0:
        return ""
    # The zero value is the enum's name and UNSPECIFIED, in every enum of the contract.
    return enum.Name(value).removeprefix(enum.Name(0).removesuffix("UNSPECIFIED"))


def time(timestamp: Timestamp) -> str:
    """A time in UTC, to the second; "" for none."""
    if timestamp.ToNanoseconds() == 0:
        return ""
    return timestamp.ToDatetime(UTC).strftime("%Y-%m-%d %H:%M:%S")


def iso_time(timestamp: Timestamp) -> str:
    """A time for machines, such as 2028-03-23T10:00:00Z; "" for none."""
    return "" if timestamp.ToNanoseconds() == 0 else timestamp.ToJsonString()


def operator_name(organisation_number: str) -> str:
    """What people call the operator."""
    names = {number: called for called, number in OPERATORS.items()}
    return names.get(organisation_number, organisation_number)


def operator_number(operator: str) -> str:
    """The organisation number of an operator, named so or as people call it."""
    number = OPERATORS.get(operator, operator)
    if not (len(number) == 9 and number.isascii() and number.isdigit()):
        raise typer.BadParameter(f"an operator is {', '.join(OPERATORS)} or an organisation number")
    return number
