"""How answers are shown: JSON for machines, tables for people."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC
from typing import Any, Protocol

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
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


def print_json(message: Message) -> None:
    """Print a message on one line, with the contract's field names."""
    fields = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    typer.echo(json.dumps(fields, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their columns."""
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDTH_WITHOUT_TERMINAL
    table = Table(*columns, box=box.SIMPLE)
    for row in rows:
        table.add_row(*row)
    console.print(table)


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
