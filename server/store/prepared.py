"""Statements that a connection has prepared, for what must cost little more than PostgreSQL's own work.

They go through psycopg's layer over libpq: through cursors they would take twice as long, through
SQLAlchemy ten times.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from opentelemetry import trace
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult
from sqlalchemy import Connection, Engine, event

from server.store.sql_spans import statement_span

_PARAMETER = re.compile(r"%\((\w+)\)s")
_BINARY = 1


class Statement:
    """SQL with %(name)s for each parameter.

    name: what PostgreSQL knows it by once it is prepared.

    The types of parameters are what PostgreSQL takes them for, whatever the values, so that it
    is one statement with NULLs and without.
    """

    def __init__(self, name: str, sql: str) -> None:
        self.name = name.encode()
        self.parameters = tuple(dict.fromkeys(_PARAMETER.findall(sql)))
        self.sql = _PARAMETER.sub(lambda found: f"${self.parameters.index(found[1]) + 1}", sql)
        self.formats = [PyFormat.TEXT] * len(self.parameters)


class PreparedStatements:
    """Runs statements on a connection; prepares each when it is first run."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self.connection = connection
        self._pgconn = connection.pgconn
        self._values = Transformer(connection)
        self._known: set[bytes] = set()

    def begin(self, milliseconds: int) -> None:
        """Begin a transaction each of whose statements may take so long."""
        # In one message: what it costs is the way to PostgreSQL and back.
        begin = b"BEGIN; SET LOCAL statement_timeout = %d" % milliseconds
        self._checked(self._pgconn.exec_(begin))

    def run(self, statement: Statement, **values: Any) -> list[dict[str, Any]]:
        """Run the statement with a value for each parameter; the rows by column.

        Raises psycopg.Error.
        """
        parameters: Any = self._values.dump_sequence(
            [values[name] for name in statement.parameters], statement.formats
        )
        result = self.execute(statement, parameters)
        columns = [(result.fname(i) or b"").decode() for i in range(result.nfields)]
        self._values.set_pgresult(result)
        return self._values.load_rows(0, result.ntuples, lambda row: dict(zip(columns, row, strict=True)))

    def execute(self, statement: Statement, parameters: Sequence[bytes] = ()) -> PGresult:
        """Run the statement with its parameters in PostgreSQL's text form; what came, in binary.

        Raises psycopg.Error.
        """
        if not trace.get_current_span().is_recording():
            return self._executed(statement, parameters)
        with statement_span(statement.sql):
            return self._executed(statement, parameters)

    def _executed(self, statement: Statement, parameters: Sequence[bytes]) -> PGresult:
        if statement.name not in self._known:
            self._checked(self._pgconn.prepare(statement.name, statement.sql.encode()))
            self._known.add(statement.name)
        return self._checked(self._pgconn.exec_prepared(statement.name, parameters, result_format=_BINARY))

    def _checked(self, result: PGresult) -> PGresult:
        if result.status in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
            return result
        if self._pgconn.status == ConnStatus.BAD:
            raise psycopg.OperationalError("the connection broke")
        raise psycopg.errors.error_from_result(result)


Run = Callable[..., list[dict[str, Any]]]


def run_for(
    run: Run, statement: Statement, names: Sequence[str], rows: Sequence[tuple[Any, ...]], **others: Any
) -> None:
    """Run the statement with an array for each column, where there are rows."""
    if rows:
        columns = zip(*rows, strict=True)
        run(statement, **dict(zip(names, map(list, columns), strict=True)), **others)


def keep_prepared(engine: Engine) -> None:
    """Have the engine's connections keep what is prepared on them when they roll back."""
    event.listen(engine, "rollback", _roll_back)


def prepared_on(connection: Connection) -> PreparedStatements:
    """The statements of the connection that SQLAlchemy holds, for as long as it is open."""
    info = connection.info
    if PreparedStatements not in info:
        info[PreparedStatements] = PreparedStatements(_driver(connection))
    found: PreparedStatements = info[PreparedStatements]
    return found


def _roll_back(connection: Connection) -> None:
    if connection.invalidated:
        return
    # psycopg would have PostgreSQL forget all prepared statements, also those that it knows nothing of.
    pgconn = _driver(connection).pgconn
    if pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
        pgconn.exec_(b"ROLLBACK")


def _driver(connection: Connection) -> "psycopg.Connection[Any]":
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver
