"""The server's check of a caller, again and again, as the server does it.

python -m tests.bench.access_check PLAN
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from server import access
from server.domain.identifiers import PersonIdentifier, parse_person_identifier
from server.domain.rules import date_in_norway
from tests.bench import closed_loop

_AT_ONCE = 1000


@dataclass(frozen=True)
class AccessChecks:
    """A plan: the "authorization" entry and the method called."""

    authorization: str
    method: str
    threads: int
    seconds: float


def _prepare(plan: AccessChecks) -> Callable[[], Callable[[], int]]:
    def once() -> int:
        for _ in range(_AT_ONCE):
            caller = access.authenticate(
                plan.authorization, development=True, parse_identifier=parse_identifier
            )
            access.authorise(plan.method, caller)
        return _AT_ONCE

    return lambda: once


def parse_identifier(text: str) -> PersonIdentifier:
    """As the server does where test persons are taken."""
    today = date_in_norway(datetime.now(UTC))
    return parse_person_identifier(text, accept_synthetic=True, today=today)


if __name__ == "__main__":
    closed_loop.drive(_prepare)
