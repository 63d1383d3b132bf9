"""What the commands of public bodies have in common."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import grpc
import typer

from krr_cli.register import connected

# Digitaliseringsdirektoratet, who runs the real register.
DIGDIR = "991825827"

As = Annotated[str, typer.Option("--as", metavar="ORGNR", help="The public body that asks.")]


@contextmanager
def connected_as(public_body: str, register: str) -> Iterator[grpc.Channel]:
    """A channel to the register as this public body; otherwise as register.connected()."""
    with connected(register, f"Development public-body/{public_body}") as channel:
        yield channel
