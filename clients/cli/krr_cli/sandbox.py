"""The sandbox suppliers: open accounts there, see what they hold, make them misbehave."""

import json
import os
from enum import StrEnum
from typing import Annotated, Any

import httpx
import typer

from krr_cli.register import REFUSED, UNREACHABLE, AsJson
from krr_cli.show import print_table

app = typer.Typer(no_args_is_help=True, help="Play with the sandbox suppliers that `krr up` started.")

# Opening an account takes a call to the register, retries included.
_SECONDS = 30.0


class Supplier(StrEnum):
    DIGIPOST = "digipost"
    EBOKS = "eboks"
    LINK = "link"


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
}


def address(supplier: Supplier) -> str:
    """Where the supplier's sandbox listens, host:port: KRR_SANDBOX_DIGIPOST and so on."""
    return os.environ.get(f"KRR_SANDBOX_{supplier.upper()}") or _DEFAULT_ADDRESSES[supplier]


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


def _ask(supplier: Supplier, method: str, path: str, body: object = None) -> Any:
    try:
        return ask(supplier, method, path, body)
    except httpx.TransportError:
        typer.echo(f"no sandbox of {supplier} answers at {address(supplier)}", err=True)
        raise typer.Exit(UNREACHABLE) from None
    except httpx.HTTPStatusError as error:
        typer.echo(f"{supplier} refused: {error.response.json()['error']}", err=True)
        raise typer.Exit(REFUSED) from None
