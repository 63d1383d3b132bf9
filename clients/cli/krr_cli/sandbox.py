"""The sandbox suppliers: open accounts there, see what they hold, make them misbehave."""

import csv
import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from krr_cli.register import REFUSED, UNREACHABLE, AsJson
from krr_cli.show import print_table

app = typer.Typer(no_args_is_help=True, help="Play with the sandbox suppliers that `krr up` started.")

# Where `krr up` has letters put, below the folder that it was started in.
_LETTERS = Path(".krr/run/suppliers/letters")

# Opening an account takes a call to the register, retries included.
_SECONDS = 30.0


class Supplier(StrEnum):
    DIGIPOST = "digipost"
    EBOKS = "eboks"
    LINK = "link"
    MAILBOX = "mailbox"
    POPULATION_REGISTER = "population-register"

    @property
    def variable(self) -> str:
        """The environment variable that moves it, such as KRR_SANDBOX_DIGIPOST."""
        return f"KRR_SANDBOX_{self.name}"


class SandboxOperator(StrEnum):
    DIGIPOST = "digipost"
    EBOKS = "eboks"


class Behaviour(StrEnum):
    NORMAL = "normal"
    DOWN = "down"
    SLOW = "slow"
    REFUSE = "refuse"
    LOSE_ANSWER = "lose_answer"


_DEFAULT_ADDRESSES = {
    Supplier.DIGIPOST: "127.0.0.1:50061",
    Supplier.EBOKS: "127.0.0.1:50062",
    Supplier.LINK: "127.0.0.1:50063",
    Supplier.MAILBOX: "127.0.0.1:50066",
    Supplier.POPULATION_REGISTER: "127.0.0.1:50067",
}


def address(supplier: Supplier) -> str:
    """Where the supplier's sandbox listens, host:port: KRR_SANDBOX_DIGIPOST and so on."""
    return os.environ.get(supplier.variable) or _DEFAULT_ADDRESSES[supplier]


def ask(supplier: Supplier, method: str, path: str, body: object = None) -> Any:
    """Call the supplier's control interface; returns its JSON, None for an empty answer.

    Raises httpx.TransportError where it is away, and httpx.HTTPStatusError.
    """
    with httpx.Client(trust_env=False, timeout=_SECONDS) as client:
        answer = client.request(method, f"http://{address(supplier)}/sandbox/{path}", json=body)
    answer.raise_for_status()
    return answer.json() if answer.content else None


@app.command()
def open_account(
    operator: SandboxOperator,
    identifier: Annotated[str, typer.Argument(metavar="ID", help="The citizen who opens it.")],
    choose: Annotated[bool, typer.Option(help="Choose it for public mail as well.")] = True,
    as_json: AsJson = False,
) -> None:
    """Open an account as a citizen would: the operator then tells the register."""
    opened = _ask(Supplier(operator), "POST", "accounts", {"identifier": identifier, "choose": choose})
    if as_json:
        typer.echo(json.dumps(opened, ensure_ascii=False))
    else:
        number = f"; change number {opened['change_number']}" if opened["change_number"] else ""
        typer.echo(f"account {opened['address']}; the register answered {opened['result']}{number}")
    if opened["result"] != "OK":
        raise typer.Exit(REFUSED)


@app.command()
def accounts(operator: SandboxOperator, as_json: AsJson = False) -> None:
    """List the accounts that the operator holds."""
    held = _ask(Supplier(operator), "GET", "accounts")
    if as_json:
        typer.echo(json.dumps(held, ensure_ascii=False))
        return
    rows = [
        [account["identifier"], account["address"], "yes" if account["receives_public_mail"] else "no"]
        for account in held
    ]
    print_table(["identifier", "address", "public mail"], rows)


@app.command()
def behaviour(
    supplier: Supplier,
    behaviour: Annotated[
        Behaviour | None, typer.Argument(help="From now on.", show_default="as it is")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a supplier misbehave, or behave again; without BEHAVIOUR, say how it does.

    down: cuts every connection. slow: waits 30 seconds. refuse: says no in its own words.
    lose_answer: does the work, then cuts the connection.
    """
    body = {"behaviour": behaviour} if behaviour else None
    switch = _ask(supplier, "PUT" if body else "GET", "behaviour", body)
    if as_json:
        typer.echo(json.dumps(switch, ensure_ascii=False))
    else:
        typer.echo(f"{supplier}: {switch['behaviour']}")


@app.command()
def messages(as_json: AsJson = False) -> None:
    """List the SMS that the gateway sent."""
    sent = _ask(Supplier.LINK, "GET", "messages")
    if as_json:
        typer.echo(json.dumps(sent, ensure_ascii=False))
        return
    columns = ["received_time", "recipient", "text", "reference_id"]
    print_table(columns, [[message[column] or "" for column in columns] for message in sent])


@app.command()
def mails(as_json: AsJson = False) -> None:
    """List the e-mails that the mail server took."""
    taken = _ask(Supplier.MAILBOX, "GET", "messages")
    if as_json:
        typer.echo(json.dumps(taken, ensure_ascii=False))
        return
    columns = ["received_time", "recipient", "subject", "message_id"]
    print_table(columns, [[mail[column] for column in columns] for mail in taken])


@app.command()
def letters(
    folder: Annotated[
        Path, typer.Option(help="Where the batches are, from where `krr up` runs.", metavar="DIR")
    ] = _LETTERS,
    as_json: AsJson = False,
) -> None:
    """List the letters that lie ready for the print house, each a PDF."""
    found = [
        {"number": f"{manifest.parent.name.removeprefix('batch-')}/{int(row['number']):04}"}
        | {"message_id": row["message_id"], "pages": int(row["pages"])}
        | {"file": str(manifest.with_name(row["file"]))}
        for manifest in sorted(folder.glob("batch-*/manifest.csv"))
        for row in csv.DictReader(manifest.read_text().splitlines())
    ]
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    # Not as a table: it would cut the file's name, which is what one wants to copy.
    for letter in found:
        typer.echo(f"{letter['number']}  {letter['file']}")


def _ask(supplier: Supplier, method: str, path: str, body: object = None) -> Any:
    try:
        return ask(supplier, method, path, body)
    except httpx.TransportError:
        typer.echo(f"no sandbox of {supplier} answers at {address(supplier)}", err=True)
        raise typer.Exit(UNREACHABLE) from None
    except httpx.HTTPStatusError as error:
        typer.echo(f"{supplier} refused: {error.response.json()['error']}", err=True)
        raise typer.Exit(REFUSED) from None
