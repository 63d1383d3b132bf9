"""What is measured: servers on the databases of a durable PostgreSQL, each on its cores."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import krr_client
import psycopg
from psycopg import sql
from sqlalchemy import NullPool, create_engine, make_url

from server.store import private_postgres, schema
from tests.bench import machine
from tests.bench.processes import Failed, last_words, running
from tests.e2e.parts import free_port
from tests.server.database import connect
from tests.server.process import environment

# As served; without persons; with the population, to clone from.
MAIN, EMPTY, SPARE = "krr", "empty", "spare"
_SECONDS_TO_SERVE = 30
_SECONDS_TO_RECOUNT = 600


class Cluster:
    """A durable PostgreSQL with two registers without persons, MAIN and EMPTY."""

    def __init__(self, directory: Path) -> None:
        self._postgres = private_postgres.start(directory, durable=True)
        self.log = directory / "postgresql.log"
        try:
            with create_engine(self.url(MAIN), poolclass=NullPool).connect() as connection:
                schema.migrate(connection)
            with self.connect(MAIN) as connection:
                self._postmaster = int(
                    _only(connection, sql.SQL("SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)"))
                )
                self._programs = Path(
                    _only(connection, sql.SQL("SELECT setting FROM pg_config WHERE name = 'BINDIR'"))
                )
                self.version = str(_only(connection, sql.SQL("SHOW server_version")))
            self.clone(MAIN, EMPTY)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it, cutting off its clients."""
        self._postgres.stop()

    def url(self, database: str) -> str:
        """SQLAlchemy's URL of a database."""
        return make_url(self._postgres.url).set(database=database).render_as_string()

    def address(self, database: str) -> dict[str, str]:
        """How libpq's programs and psycopg find a database."""
        url = make_url(self._postgres.url)
        return {"host": str(url.query["host"]), "user": str(url.username), "dbname": database}

    def connect(self, database: str) -> "psycopg.Connection[Any]":
        """A connection in autocommit."""
        return connect(self.url(database))

    def clone(self, of: str, name: str) -> None:
        """Make a database as another one is, to which nobody may be connected."""
        with self.connect("postgres") as connection:
            statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
            connection.execute(statement.format(sql.Identifier(name), sql.Identifier(of)))

    def drop(self, name: str) -> None:
        """Remove a database, cutting off its clients."""
        with self.connect("postgres") as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def settle(self, database: str) -> None:
        """Do now what PostgreSQL would do in the middle of a run."""
        with self.connect(database) as connection:
            connection.execute("VACUUM (FREEZE, ANALYZE)")
            connection.execute("CHECKPOINT")

    def count(self, database: str, table: str) -> int:
        """How many rows a table has."""
        with self.connect(database) as connection:
            return int(_only(connection, sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))))

    def wait_for_recount(self, database: str) -> None:
        """Return when the server has counted what persons share. Raises Failed where it does not."""
        ends = time.monotonic() + _SECONDS_TO_RECOUNT
        while self.count(database, "shared_recount"):
            if time.monotonic() > ends:
                raise Failed("the server does not count shared contact info")
            time.sleep(0.05)

    def program(self, name: str) -> str:
        """The path of one of PostgreSQL's programs, of the same release."""
        return str(self._programs / name)

    def cpu_seconds(self) -> float:
        """What all its processes have used."""
        return machine.family_cpu_seconds(self._postmaster)


@dataclass(frozen=True)
class Register:
    """A server at work."""

    address: str
    process: int
    database: str

    def ask(self, method: str, request: bytes, caller: str) -> bytes:
        """The answer to one call, as it came. Raises grpc.RpcError."""
        with grpc.insecure_channel(self.address) as channel:
            call: Any = channel.unary_unary(method)
            answer: bytes = call(request, metadata=(("authorization", f"Development {caller}"),), timeout=10)
        return answer

    @contextmanager
    def channel(self, caller: str) -> Iterator[grpc.Channel]:
        """The client's channel, as a caller such as "public-body/991825827"."""
        with krr_client.connect(self.address, f"Development {caller}") as channel:
            yield channel


@contextmanager
def serving(
    cluster: Cluster, database: str, directory: Path, tracing: dict[str, str] | None = None
) -> Iterator[Register]:
    """`python -m server` on the database and on a core of its own.

    tracing: OpenTelemetry's settings. Without any, spans are made for no call, as for those
        that were not sampled.
    """
    directory.mkdir()
    log = directory / "log"
    address = f"127.0.0.1:{free_port()}"
    settings = environment(
        database_url=cluster.url(database),
        listen=address,
        development_credentials="true",
        synthetic_identifiers="true",
        trace_directory=str(directory / "traces"),
        witness_file=str(directory / "witness"),
        drain_seconds="2",
    )
    settings |= {"OTEL_TRACES_SAMPLER": "always_off"} if tracing is None else tracing
    with running("-m", "server", in_the_servers_place=True, log=log, environment=settings) as process:
        ends = time.monotonic() + _SECONDS_TO_SERVE
        while '"serving"' not in log.read_text():
            if process.poll() is not None or time.monotonic() > ends:
                raise Failed(f"the server does not come up: {last_words(log)}")
            time.sleep(0.02)
        yield Register(address, process.pid, database)


def _only(connection: "psycopg.Connection[Any]", statement: sql.SQL | sql.Composed) -> Any:
    """The one value that the statement gives."""
    row = connection.execute(statement).fetchone()
    assert row is not None
    return row[0]
