"""A register that fails as it is told to, and channels to it."""

from collections.abc import Iterator

import grpc
import pytest
from krr_client import connect

from tests.clients.feed_copy import pages
from tests.clients.scripted_register import ScriptedRegister, Wire

CREDENTIAL = "Development public-body/991825827"


@pytest.fixture
def scripted() -> Iterator[ScriptedRegister]:
    """A register that serves the pages of feed_copy, and fails as its acts say."""
    running = ScriptedRegister(pages())
    running.start()
    yield running
    running.end()


@pytest.fixture
def channel(scripted: ScriptedRegister) -> Iterator[grpc.Channel]:
    """The client's own channel to it."""
    with connect(f"127.0.0.1:{scripted.port}", CREDENTIAL) as opened:
        yield opened


@pytest.fixture
def wire(scripted: ScriptedRegister) -> Iterator[Wire]:
    """A way to it that can break."""
    plugged = Wire(scripted.port)
    plugged.plug_in()
    yield plugged
    plugged.tear_out()


@pytest.fixture
def wired(wire: Wire) -> Iterator[grpc.Channel]:
    """The client's own channel over that way."""
    with connect(f"127.0.0.1:{wire.port}", CREDENTIAL) as opened:
        yield opened
