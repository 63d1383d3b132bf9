"""Reads of encoded persons: the look-ups and the feed, which must cost little more than the database does.

On connections that are held open with their statements prepared; rows are taken as they come.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg.pq.abc import PGresult

from server.domain.identifiers import PersonIdentifier
from server.domain.person import Person
from server.store.prepared import PreparedStatements, Statement

Result = TypeVar("Result")

# One array in text: a parameter for each would cost more than to find its person.
LOOK_UP = Statement(
    "look_up", "SELECT encoded, identifier FROM person WHERE identifier = ANY(%(identifiers)s::text[])"
)
CHANGES = Statement(
    "changes",
    "SELECT encoded, identifier, change_number FROM person WHERE change_number > %(after)s::bigint"
    " ORDER BY change_number LIMIT %(limit)s::bigint",
)
LAST_CHANGE_NUMBER = Statement("last_change_number", "SELECT last_change_number FROM register")

# Each statement has one plan that is right for any size of the register: by its index.
_SESSION = " -c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c jit=off"


class EncodedReader:
    """Reads outside a transaction, each of one moment."""

    def __init__(
        self,
        statements: PreparedStatements,
        persons: Callable[[Sequence[PersonIdentifier]], dict[PersonIdentifier, Person]],
        encode: Callable[[Person], bytes],
    ) -> None:
        self._execute = statements.execute
        self._persons = persons
        self._encode = encode

    def persons(self, identifiers: Sequence[PersonIdentifier]) -> list[bytes]:
        """The persons, encoded, in that order; those never registered as NOT_REGISTERED."""
        # Digits only, so they need no quotes.
        result = self._execute(LOOK_UP, (f"{{{','.join(identifiers)}}}".encode(),))
        value = result.get_value
        found = {value(i, 1): value(i, 0) for i in range(result.ntuples)}
        persons = [found.get(identifier.encode()) for identifier in identifiers]
        if None in persons:
            others = [each for each, encoded in zip(identifiers, persons, strict=True) if not encoded]
            # Those of code from before, until the job has encoded them; the rest is unknown.
            not_encoded = [each for each in others if each.encode() in found]
            plain = self._persons(not_encoded) if not_encoded else {}
            made = {each: self._encode(plain.get(each) or Person(identifier=each)) for each in others}
            return [encoded or made[each] for each, encoded in zip(identifiers, persons, strict=True)]
        return [encoded for encoded in persons if encoded]

    def changed(self, after: int, limit: int) -> tuple[list[bytes], int, bool]:
        """The next persons by change number after `after`, exclusive, tombstones included; the
        number up to which they are all, and whether there were no more.
        """
        result = self._execute(CHANGES, (b"%d" % after, b"%d" % limit))
        count = result.ntuples
        if not count:
            return [], after, True
        value = result.get_value
        persons = [encoded for i in range(count) if (encoded := value(i, 0))]
        if len(persons) < count:
            persons = self._with_plain(result)
        # One statement read the page: had there been more, it would be full.
        no_more = count < limit and len(persons) == count
        return persons, _number(value(count - 1, 2)), no_more

    def last_change_number(self) -> int:
        """The highest change number committed."""
        return _number(self._execute(LAST_CHANGE_NUMBER).get_value(0, 0))

    def _with_plain(self, result: PGresult) -> list[bytes]:
        value = result.get_value
        missing = [_identifier(value(i, 1)) for i in range(result.ntuples) if not value(i, 0)]
        persons = self._persons(missing)
        # Who has changed since this page was read comes again on a later one.
        plain = {person.change_number: self._encode(person) for person in persons.values()}
        rows = [value(i, 0) or plain.get(_number(value(i, 2))) for i in range(result.ntuples)]
        return [encoded for encoded in rows if encoded]


class HeldConnections:
    """As many connections as reads ever ran at once, each with its statements prepared."""

    def __init__(self, parameters: dict[str, Any], session: str) -> None:
        self._parameters = {**parameters, "options": session + _SESSION}
        self._idle: deque[PreparedStatements] = deque()

    def run(self, read: Callable[[PreparedStatements], Result]) -> Result:
        """Run reads on a connection of their own. Raises psycopg.Error."""
        try:
            statements = self._idle.pop()
        except IndexError:
            statements = PreparedStatements(psycopg.connect(**self._parameters, autocommit=True))
        try:
            return read(statements)
        finally:
            if statements.connection.closed:
                # Most likely the others are gone too, all with the same server.
                self.close()
            else:
                self._idle.append(statements)

    def close(self) -> None:
        """Close those that nobody uses now."""
        while self._idle:
            self._idle.pop().connection.close()


def _identifier(value: bytes | None) -> PersonIdentifier:
    return PersonIdentifier((value or b"").decode())


def _number(value: bytes | None) -> int:
    return int.from_bytes(value or b"")
