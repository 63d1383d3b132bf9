"""The floor of reads: the server's statements on connections like the server's, the rows dropped.

python -m tests.bench.raw_reads PLAN
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from server.store.encoded_reads import HeldConnections
from tests.bench import closed_loop


@dataclass(frozen=True)
class RawReads:
    """A plan: a statement with each of its parameters in turn, by as many connections as threads."""

    address: Mapping[str, Any]
    statement: bytes
    parameters: Sequence[tuple[Any, ...]]
    threads: int
    seconds: float


def _prepare(plan: RawReads) -> Callable[[], Callable[[], int]]:
    held = HeldConnections(dict(plan.address), "")
    parameters = itertools.cycle(plan.parameters)

    def once() -> int:
        given = next(parameters)
        return len(held.run(lambda held_one: _rows(held_one.connection, plan.statement, given)))

    return lambda: once


def _rows(connection: "psycopg.Connection[Any]", statement: bytes, given: tuple[Any, ...]) -> list[Any]:
    # The server goes by libpq itself where that costs less; a cursor is what one would use.
    return psycopg.RawCursor(connection).execute(statement, given, prepare=True, binary=True).fetchall()


if __name__ == "__main__":
    closed_loop.drive(_prepare)
