"""Looking up any number of persons, into CSV or JSON lines, without holding them in memory."""

import csv
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, TextIO

import grpc
import typer
from krr.v1 import register_service_pb2 as pb
from krr_client import RegisterError, look_up_persons
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

from krr_cli.identifiers_to_look_up import NotText, identifiers_in
from krr_cli.look_up_entry import CSV_COLUMNS, csv_row
from krr_cli.register import REFUSED
from krr_cli.show import json_line
from krr_cli.whole_file import part_of, whole_file

STANDARD_INPUT = Path("-")


class Purpose(StrEnum):
    NOTICE = "notice"
    SERVICE_MESSAGE = "service-message"


def contract_purpose(purpose: Purpose) -> pb.Purpose.ValueType:
    """The purpose as the contract has it."""
    return {Purpose.NOTICE: pb.PURPOSE_NOTICE, Purpose.SERVICE_MESSAGE: pb.PURPOSE_SERVICE_MESSAGE}[purpose]


def look_up_many(
    channel: grpc.Channel,
    wanted: Path | list[str],
    purpose: Purpose,
    give_up_after: float,
    output: Path | None,
    *,
    as_json: bool,
) -> int:
    """Look up the identifiers, or those in a file; returns how many of them were refused.

    give_up_after: seconds without any answer.
    output: a file that is whole or not there; None for standard output.

    Says on standard error how many there were, and how far it came where it does not come to
    the end. Raises RegisterError, and typer.Exit where a file cannot be read or written.
    """
    count = refused = 0
    try:
        with _progress(wanted, output) as show, _identifiers(wanted) as identifiers, _text(output) as text:
            write = _writer(text, as_json)
            for entry in look_up_persons(
                channel,
                identifiers,
                purpose=contract_purpose(purpose),
                on_progress=show,
                give_up_after=give_up_after,
            ):
                write(entry)
                count += 1
                refused += not entry.HasField("person")
    except (RegisterError, KeyboardInterrupt):
        _say_stopped(count, output)
        raise
    except NotText as error:
        _say_stopped(count, output)
        raise typer.BadParameter(f"{wanted}: {error}") from None
    except BrokenPipeError:
        raise
    except OSError as error:
        _say_stopped(count, output)
        typer.echo(f"cannot read or write: {error}", err=True)
        raise typer.Exit(REFUSED) from None
    typer.echo(f"{count - refused} looked up, {refused} refused", err=True)
    return refused


def _say_stopped(count: int, output: Path | None) -> None:
    where = f"; they are in {part_of(output)}" if output and count else ""
    typer.echo(f"stopped after {count} identifiers{where}", err=True)


@contextmanager
def _identifiers(wanted: Path | list[str]) -> Iterator[Iterator[str]]:
    if isinstance(wanted, list):
        yield iter(wanted)
        return
    opened: BinaryIO
    with (
        nullcontext(typer.get_binary_stream("stdin"))
        if wanted == STANDARD_INPUT
        else wanted.open("rb") as opened
    ):
        yield identifiers_in(opened)


@contextmanager
def _text(output: Path | None) -> Iterator[TextIO]:
    if output:
        with whole_file(output) as text:
            yield text
    else:
        yield sys.stdout
        sys.stdout.flush()


def _writer(text: TextIO, as_json: bool) -> Callable[[pb.LookUpEntry], object]:
    if as_json:
        return lambda entry: text.write(f"{json_line(entry)}\n")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(CSV_COLUMNS)
    return lambda entry: rows.writerow(csv_row(entry))


@contextmanager
def _progress(wanted: Path | list[str], output: Path | None) -> Iterator[Callable[[int], None] | None]:
    """How many were answered, on a terminal that shows nothing else meanwhile."""
    console = Console(stderr=True)
    if not console.is_terminal or (output is None and sys.stdout.isatty()):
        yield None
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # Standard output is for the answers: Rich would send them to this console.
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("", total=_count(wanted))
        yield lambda answered: progress.update(task, completed=answered)


def _count(wanted: Path | list[str]) -> int | None:
    if isinstance(wanted, list):
        return len(wanted)
    # Anything else can be read only once.
    if not wanted.is_file():
        return None
    with _identifiers(wanted) as identifiers:
        return sum(1 for _ in identifiers)
