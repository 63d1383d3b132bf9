"""After a restore of the database: see where the register stands, and decide."""

import os
import subprocess
import sys
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="After a restore or failover of the database: decide whether readers start again.",
)

_DATABASE_URL = "KRR_DATABASE_URL"


@app.command()
def show() -> None:
    """Show where the register stands and what there is to decide; exit code 0 if nothing.

    All of `krr epoch` goes to the database, since the server waits for the decision: give it the
    server's KRR_DATABASE_URL and KRR_WITNESS_FILE, on the server's machine.
    """
    _run("show")


@app.command()
def keep() -> None:
    """Nothing was lost, cursors stay good. Refused where it is known that something was."""
    _run("keep")


@app.command()
def new(yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Changes may be lost: begin a new epoch, in which every reader of changes starts again."""
    _require_database_url()
    if not yes:
        typer.confirm("Every reader of changes will start again from the beginning. Go on?", abort=True)
    _run("new")


def _run(decision: str) -> None:
    _require_database_url()
    done = subprocess.run([sys.executable, "-m", "server", "epoch", decision])
    # A process that a signal ended has a negative code, which is none to exit with.
    raise typer.Exit(done.returncode if done.returncode >= 0 else 128 - done.returncode)


def _require_database_url() -> None:
    if not os.environ.get(_DATABASE_URL):
        raise typer.BadParameter(
            f"{_DATABASE_URL} is not set: it names the database, as it does for the server"
        )
