"""What PostgreSQL was sent in a transaction, from its log."""

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import sql

from tests.bench.processes import Failed
from tests.bench.register import Cluster

_LOGGED = {"log_statement": "all", "log_error_verbosity": "default", "log_parameter_max_length": "-1"}
_ENTRY = re.compile(r"^\S+ \S+ \S+ \[(?P<process>\d+)\] (?P<kind>[A-Z]+):  (?P<text>.*)$")
_STATEMENT = re.compile(r"^(?:statement|execute [^:]*): (.*)$", re.DOTALL)
_PARAMETER = re.compile(r"\$(\d+) = (NULL|'(?:[^']|'')*')")


@dataclass
class Statement:
    """A statement with $1 and so on, and what these stood for, as literals."""

    text: str
    parameters: dict[int, str]


@contextmanager
def logging(cluster: Cluster, database: str) -> Iterator[None]:
    """Whoever connects to the database within has all statements logged."""
    name = sql.Identifier(database)
    with cluster.connect(database) as connection:
        for setting, value in _LOGGED.items():
            statement = sql.SQL("ALTER DATABASE {} SET {} = {}")
            connection.execute(statement.format(name, sql.Identifier(setting), sql.Literal(value)))
        try:
            yield
        finally:
            connection.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(name))


def transaction_of(cluster: Cluster, request_id: str) -> list[Statement]:
    """The statements of the transaction that wrote with this request id, without BEGIN and COMMIT.

    Raises Failed where there is none in the log.
    """
    under_way: dict[str, list[Statement]] = {}
    wanted = f"'{uuid.UUID(request_id)}'"
    for process, kind, text in _entries(cluster.log.read_text()):
        statement = _STATEMENT.match(text)
        if kind == "DETAIL" and process in under_way and under_way[process]:
            found = {int(number): value for number, value in _PARAMETER.findall(text)}
            under_way[process][-1].parameters.update(found)
        elif not statement:
            continue
        elif statement[1].startswith("BEGIN"):
            under_way[process] = []
        elif statement[1] != "COMMIT":
            under_way.setdefault(process, []).append(Statement(statement[1], {}))
        elif any(wanted in each.parameters.values() for each in under_way.get(process, ())):
            return under_way[process]
    raise Failed("PostgreSQL's log does not hold the transaction")


def _entries(log: str) -> Iterator[tuple[str, str, str]]:
    """Process, kind and text of each entry, which may have several lines."""
    process = kind = ""
    lines: list[str] = []
    for line in log.splitlines():
        entry = _ENTRY.match(line)
        if not entry:
            lines.append(line.removeprefix("\t"))
            continue
        if kind:
            yield process, kind, "\n".join(lines)
        process, kind, lines = entry["process"], entry["kind"], [entry["text"]]
    yield process, kind, "\n".join(lines)
