"""The way to the register, and what every command that takes it has in common."""

import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import grpc
import typer
from krr_client import RegisterError, connect

# Exit codes. 2, wrong usage, is typer's own; the last two are what a shell says of a command
# that Ctrl-C ended, and of one whose output nobody reads any more.
REFUSED = 1
UNREACHABLE = 3
SOME_REFUSED = 4
STOPPED_AT_CAP = 5
INTERRUPTED = 128 + signal.SIGINT
READER_LEFT = 128 + signal.SIGPIPE

# What a register says, or what is said of it, that is away for now.
AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

DEFAULT_REGISTER = "127.0.0.1:50051"

Register = Annotated[
    str, typer.Option(envvar="KRR_REGISTER", metavar="HOST:PORT", help="Where the register is.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines, one object per line.")]
RequestId = Annotated[
    str | None,
    typer.Option(
        metavar="UUID", help="Names this intention: the same id again does nothing twice.", show_default="new"
    ),
]
ADMINISTRATOR = "Development administrator/krr-cli"


@contextmanager
def connected(register: str, credential: str, *, timeout: float = 10.0) -> Iterator[grpc.Channel]:
    """A channel to the register; a refusal within becomes a line on standard error and an exit code.

    timeout: seconds that each call may take.
    """
    if not (credential.isascii() and credential.isprintable()):
        raise typer.BadParameter("only ASCII can name a caller")
    try:
        with connect(register, credential, timeout=timeout) as channel:
            yield channel
    except RegisterError as error:
        for line in _refusal(error):
            typer.echo(line, err=True)
        raise typer.Exit(UNREACHABLE if error.status in AWAY else REFUSED) from None


def request_id_or_new(request_id: str | None) -> str:
    """The caller's request id, or a fresh one."""
    return request_id or str(uuid.uuid4())


def _refusal(error: RegisterError) -> Iterator[str]:
    yield str(error)
    for field, description in error.fields:
        yield f"  {field}: {description}"
    if error.retry_after is not None:
        yield f"  try again in {error.retry_after:g} s"
