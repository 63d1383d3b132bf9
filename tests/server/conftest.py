"""Callers that may call anything, and the database beside the server."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from server.__main__ import Server
from server.config import Settings
from server.encoded_person import encode_person
from server.store.prepared import PreparedStatements
from server.store.store import Store
from tests.conftest import Register, opened
from tests.server.campaigns import Campaigns
from tests.server.database import connect
from tests.server.rpcs import Rpcs


@pytest.fixture
def rpcs(server: Server) -> Iterator[Rpcs]:
    """Calls to the server in this process."""
    calls = Rpcs(f"127.0.0.1:{server.port}")
    yield calls
    calls.close()


@pytest.fixture
def database(database_url: str) -> Iterator["psycopg.Connection[Any]"]:
    """The server's database, seen beside it."""
    with connect(database_url) as connection:
        yield connection


@pytest.fixture(scope="session")
def exporter() -> InMemorySpanExporter:
    """Where the spans of this process go."""
    found = InMemorySpanExporter()
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    provider.add_span_processor(SimpleSpanProcessor(found))
    return found


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Callable[[], list[ReadableSpan]]:
    """The spans that ended since the test began."""
    exporter.clear()
    return lambda: list(exporter.get_finished_spans())


@pytest.fixture
def statements(server: Server, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """SQL that calls and streams run, not counting what the server does by itself."""
    seen: list[str] = []

    def spy_on(owner: Any, method: str) -> None:
        original = getattr(owner, method)

        def noting(self: Any, statement: Any, *arguments: Any, **named: Any) -> Any:
            if threading.current_thread().name.startswith(("call", "stream_")):
                seen.append(str(statement))
            return original(self, statement, *arguments, **named)

        monkeypatch.setattr(owner, method, noting)

    spy_on(psycopg.Cursor, "execute")
    # Past the cursors.
    spy_on(PreparedStatements, "execute")
    return seen


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Imports take so few persons at a time that a few take many."""
    monkeypatch.setattr("server.person_import.CHUNK", 7)


@pytest.fixture
def campaigns(register: Register, settings: Settings) -> Iterator[Campaigns]:
    """Campaigns of the register, on a store of their own."""
    store = opened(lambda: Store(settings.database_url, encode_person, connections=4, require_durable=False))
    yield Campaigns(register, store)
    store.close()
