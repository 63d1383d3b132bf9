"""A real PostgreSQL for each test process, a database for each test, a server on a real port."""

import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import grpc
import krr_client
import psycopg
import pytest
from krr.v1 import (
    admin_service_pb2_grpc,
    citizen_service_pb2_grpc,
    delivery_service_pb2_grpc,
    mailbox_operator_service_pb2_grpc,
    register_service_pb2_grpc,
)
from sqlalchemy import NullPool, create_engine, make_url
from sqlalchemy.exc import OperationalError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from server.__main__ import Server
from server.config import Settings
from server.store import private_postgres, schema
from tests.open_folder import open_folder
from tests.people import DIGIPOST, EBOKS, PUBLIC_BODY

Opened = TypeVar("Opened")

# A shell has commands in the background ignore it, and so would all that the tests start and end by it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Some tests exist in two sizes: the full one takes minutes each."""
    parser.addoption(
        "--full-size", action="store_true", help="run tests at their full size, not a tenth of it"
    )


@pytest.fixture(scope="session")
def full_size(pytestconfig: pytest.Config) -> bool:
    """Whether a test that has two sizes shall run in its full one."""
    return bool(pytestconfig.getoption("--full-size"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL whose database `krr` is migrated; without fsync, for speed."""
    with open_folder() as folder:
        running = private_postgres.start(folder, durable=False)
        with create_engine(running.url, poolclass=NullPool).connect() as connection:
            schema.migrate(connection)
        yield running.url
        running.stop()


@pytest.fixture
def database_url(postgres: str) -> Iterator[str]:
    """URL of an empty register of the test's own."""
    name = f"test_{uuid.uuid4().hex}"
    url = make_url(postgres)
    host = str(url.query["host"])
    with psycopg.connect(host=host, user=url.username, dbname="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE krr".encode())
    yield url.set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(host=host, user=url.username, dbname="postgres", autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings of a server for the test."""
    return Settings(
        database_url=database_url,
        listen="127.0.0.1:0",
        development_credentials=True,
        synthetic_identifiers=True,
        test_accept_unsafe_postgresql=True,
        trace_directory=tmp_path / "traces",
        witness_file=tmp_path / "witness",
        sweep_days=0,
        # Tests run at any hour, and do in a second what a person does in a year.
        quiet_hours="",
        reminders=False,
        messages_per_day=1000,
    )


@pytest.fixture
def server(settings: Settings) -> Iterator[Server]:
    """A server in this process, on a port of its own."""
    running = opened(lambda: Server(settings))
    yield running
    running.end()


def opened(make: Callable[[], Opened]) -> Opened:
    """What make() gives, also where the machine stands still for longer than a connection may take."""
    patience = Retrying(
        stop=stop_after_attempt(3), retry=retry_if_exception_type(OperationalError), reraise=True
    )
    return patience(make)


class Register:
    """The register as its callers see it: a stub for each service and caller."""

    def __init__(self, connect: Callable[[str], grpc.Channel]) -> None:
        self._connect = connect

    def as_public_body(
        self, organisation: str = PUBLIC_BODY
    ) -> register_service_pb2_grpc.RegisterServiceStub:
        return register_service_pb2_grpc.RegisterServiceStub(self._connect(f"public-body/{organisation}"))

    def as_citizen(self, identifier: str) -> citizen_service_pb2_grpc.CitizenServiceStub:
        return citizen_service_pb2_grpc.CitizenServiceStub(self._connect(f"citizen/{identifier}"))

    def as_log_in_service(self) -> citizen_service_pb2_grpc.CitizenServiceStub:
        return citizen_service_pb2_grpc.CitizenServiceStub(self._connect(f"log-in-service/{PUBLIC_BODY}"))

    def as_operator(self, operator: str) -> mailbox_operator_service_pb2_grpc.MailboxOperatorServiceStub:
        return mailbox_operator_service_pb2_grpc.MailboxOperatorServiceStub(
            self._connect(f"operator/{operator}")
        )

    def as_digipost(self) -> mailbox_operator_service_pb2_grpc.MailboxOperatorServiceStub:
        return self.as_operator(DIGIPOST)

    def as_eboks(self) -> mailbox_operator_service_pb2_grpc.MailboxOperatorServiceStub:
        return self.as_operator(EBOKS)

    def as_adapter(self, name: str) -> delivery_service_pb2_grpc.DeliveryServiceStub:
        return delivery_service_pb2_grpc.DeliveryServiceStub(self._connect(f"adapter/{name}"))

    def as_administrator(self) -> admin_service_pb2_grpc.AdminServiceStub:
        return admin_service_pb2_grpc.AdminServiceStub(self._connect("administrator/test"))


@pytest.fixture
def register(server: Server) -> Iterator[Register]:
    """The server's callers."""
    channels: dict[str, grpc.Channel] = {}

    def connect(caller: str) -> grpc.Channel:
        if caller not in channels:
            channels[caller] = krr_client.connect(f"127.0.0.1:{server.port}", f"Development {caller}")
        return channels[caller]

    yield Register(connect)
    for channel in channels.values():
        channel.close()
