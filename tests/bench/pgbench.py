"""pgbench, the floor of writes: the statements of a transaction, with other values each time."""

import os
import re
import subprocess
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

from tests.bench.machine import in_the_servers_place
from tests.bench.processes import Failed
from tests.bench.register import Cluster
from tests.bench.runs import Run, Watched, elapsed
from tests.bench.sent_statements import Statement

# Identifiers that pgbench can make from a row's id; none is a person's.
_FIRST_IDENTIFIER = 10_000_000_000
IDENTIFIER = f"({_FIRST_IDENTIFIER} + :person)::text"
REQUEST_ID = "lpad(to_hex(:request::bigint), 32, '0')::uuid"

_RENAME = """
    UPDATE person SET identifier = ({first} + id)::text
    WHERE id IN (SELECT id FROM person ORDER BY id LIMIT {most}) RETURNING id
"""
_PLACEHOLDER = re.compile(r"\$(\d+)")
_DONE = re.compile(r"^number of transactions actually processed: (\d+)", re.MULTILINE)
_FAILED = re.compile(r"^number of failed transactions: (\d+)", re.MULTILINE)


def script_of(
    statements: Sequence[Statement],
    value_of: Callable[[str], str],
    gives_variables: Callable[[str], bool],
) -> str:
    """The transaction as a script.

    value_of: what to write for a literal: another one, an expression of pgbench's variables, or the
        literal itself.
    gives_variables: whether a statement's columns are variables from then on, by its text.
    """
    lines = ["BEGIN;"]
    for text, group in groupby(statements, key=lambda statement: statement.text):
        filled = [_filled(statement, value_of) for statement in group]
        if gives_variables(text):
            lines += [f"{each} \\gset" for each in filled]
        elif len(filled) > 1:
            # One statement for several rows goes to PostgreSQL without waiting for each answer.
            lines += ["\\startpipeline", *(f"{each};" for each in filled), "\\endpipeline"]
        else:
            lines.append(f"{filled[0]};")
    return "\n".join([*lines, "COMMIT;", ""])


def encoded(literal: str, number: int) -> str:
    """An expression for a person ready to be sent, which begins with the change number; empty for another
    literal.
    """
    found = re.fullmatch(rf"'\\x{number:016x}([0-9a-f]*)'", literal)
    return f"(int8send(:last_change_number::bigint) || '\\x{found[1]}'::bytea)" if found else ""


def row_id_of(cluster: Cluster, database: str, identifier: str) -> int:
    """The id of the person's row; 0 where there is none."""
    with cluster.connect(database) as connection:
        found = connection.execute("SELECT id FROM person WHERE identifier = %s", [identifier]).fetchone()
    return int(found[0]) if found else 0


def rename_persons(cluster: Cluster, database: str, most: int) -> tuple[int, int]:
    """Give the first so many persons an IDENTIFIER; the first and the last id. Raises Failed."""
    with cluster.connect(database) as connection:
        renamed = connection.execute(_RENAME.format(first=_FIRST_IDENTIFIER, most=most).encode()).fetchall()
    cluster.settle(database)
    first, last = min(renamed)[0], max(renamed)[0]
    if last - first + 1 != len(renamed):
        raise Failed("pgbench needs rows without gaps in their ids")
    return first, last


def run(
    cluster: Cluster,
    database: str,
    script: str,
    *,
    clients: int,
    seconds: float,
    folder: Path,
    watched: Watched,
) -> Run:
    """Run the script again and again by so many clients, in the server's place. Raises Failed."""
    file = folder / "pgbench.sql"
    file.write_text(script)
    address = cluster.address(database)
    command = [cluster.program("pgbench"), "--no-vacuum", "--protocol=prepared", f"--file={file}"]
    command += [f"--client={clients}", f"--time={max(1, round(seconds))}"]
    command += [f"--host={address['host']}", f"--username={address['user']}", address["dbname"]]
    with elapsed(watched) as passed, in_the_servers_place():
        done = subprocess.run(
            command, capture_output=True, text=True, env={"PATH": os.environ["PATH"], "LC_ALL": "C"}
        )
    transactions, failed = _DONE.search(done.stdout), _FAILED.search(done.stdout)
    if done.returncode or not transactions or not failed or int(failed[1]):
        raise Failed(f"pgbench: {done.stdout[-1000:]} {done.stderr[-1000:]}")
    return Run(int(transactions[1]), passed.seconds, cpu=passed.cpu)


def _filled(statement: Statement, value_of: Callable[[str], str]) -> str:
    def value(found: "re.Match[str]") -> str:
        literal = statement.parameters[int(found[1])]
        written = value_of(literal)
        # A colon would begin a variable.
        return "E" + literal.replace(":", "\\072") if written == literal and ":" in literal else written

    return _PLACEHOLDER.sub(value, statement.text)
