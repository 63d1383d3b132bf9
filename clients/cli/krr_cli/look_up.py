"""`krr look-up`: a few persons as a table, any number as CSV or JSON lines."""

import os
from pathlib import Path
from typing import Annotated

import grpc
import typer
from krr.v1 import register_service_pb2 as pb
from krr.v1.register_service_pb2_grpc import RegisterServiceStub

from krr_cli.look_up_entry import CSV_COLUMNS, TABLE_COLUMNS, table_row
from krr_cli.look_up_many import STANDARD_INPUT, Purpose, contract_purpose, look_up_many
from krr_cli.public_body import DIGDIR, As, connected_as
from krr_cli.register import DEFAULT_REGISTER, SOME_REFUSED, AsJson, Register
from krr_cli.show import print_json, print_table

app = typer.Typer()

# A paragraph is one line: what shows it folds it to the terminal.
_HELP = "\n\n".join(
    (
        "Look up persons: may they be notified, and which way does a letter go?",
        "Up to 1000 identifiers on the command line give a table, or with --json one object with all "
        "entries. A --file may hold any number, one per line; blank lines, white space and what follows "
        "a # are skipped. It gives CSV, or with --json one entry per line, as the answers come in. A "
        "malformed identifier gets a row with its refusal and stops none of the others; the exit code "
        f"is then {SOME_REFUSED}.",
        f"Columns of the CSV: {', '.join(CSV_COLUMNS)}. Times are UTC, flags true or false; what the "
        "register does not hold is empty. Values are as they were registered: one may begin with = or "
        "+, so have a spreadsheet import every column as text.",
    )
)


@app.command(help=_HELP)
def look_up(
    identifiers: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="1 to 1000 identifiers.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Who to look up; - is standard input.", show_default=False),
    ] = None,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV with a header row.", show_default="with --file")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            help="Where CSV or JSON lines go: to FILE.part, which becomes FILE when it is complete.",
            metavar="FILE",
            show_default="standard output",
        ),
    ] = None,
    purpose: Annotated[
        Purpose, typer.Option(help="notice: expired contact points are left out.")
    ] = Purpose.NOTICE,
    give_up_after: Annotated[
        float,
        typer.Option(
            min=0, metavar="SECONDS", help="How long CSV or a --file waits for a register that is away."
        ),
    ] = 60.0,
    public_body: As = DIGDIR,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    if bool(identifiers) == bool(file):
        raise typer.BadParameter("name either identifiers or a --file")
    if file and file != STANDARD_INPUT and (file.is_dir() or not os.access(file, os.R_OK)):
        raise typer.BadParameter(f"{file} is no file that can be read")
    if as_csv and as_json:
        raise typer.BadParameter("either --csv or --json")
    many = bool(file) or as_csv
    if output:
        if not many:
            raise typer.BadParameter("--output goes with --file or --csv")
        if not output.parent.is_dir() or (output.exists() and not output.is_file()):
            raise typer.BadParameter(f"{output} cannot be a file")
    with connected_as(public_body, register) as channel:
        if many:
            refused = look_up_many(
                channel, file or identifiers or [], purpose, give_up_after, output, as_json=as_json
            )
        else:
            refused = _show(channel, identifiers or [], purpose, as_json)
    if refused:
        raise typer.Exit(SOME_REFUSED)


def _show(channel: grpc.Channel, identifiers: list[str], purpose: Purpose, as_json: bool) -> int:
    """Returns how many were refused."""
    request = pb.LookUpPersonsRequest(identifiers=identifiers, purpose=contract_purpose(purpose))
    answer = RegisterServiceStub(channel).LookUpPersons(request)
    if as_json:
        print_json(answer)
    else:
        print_table(TABLE_COLUMNS, [table_row(entry) for entry in answer.entries])
    return sum(not entry.HasField("person") for entry in answer.entries)
