"""The store: one database behind two doors, read() and write()."""

import hmac
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar, overload

import psycopg
import tenacity
from sqlalchemy import Connection, create_engine, select, text
from sqlalchemy.exc import DBAPIError

from server.domain.caller import Caller, CallerKind
from server.domain.errors import Reason, Refusal
from server.domain.identifiers import OrganisationNumber, PersonIdentifier
from server.domain.person import Person
from server.store import tables
from server.store.encoded_reads import EncodedReader, HeldConnections
from server.store.prepared import keep_prepared, prepared_on
from server.store.schema import check_durability, check_schema
from server.store.shared_contact import digest_with
from server.store.sql_spans import trace_statements
from server.store.transaction import Answer, Reader, Transaction, WriteRequest

Result = TypeVar("Result")

# Kept as long as the contract promises the first answer to a repeated request.
KEEP_ANSWERS = timedelta(days=90)

_FORGET_OLD_ANSWERS = text("""
    DELETE FROM request WHERE (caller, request_id) IN (
        SELECT caller, request_id FROM request WHERE created_time < now() - :age LIMIT 10000)
""")

# What another transaction can cause and a second run can cure: serialization failure,
# deadlock, two entering the same new person, a lock not had in time.
_CONFLICTS = ("40001", "40P01", "23505", "55P03")
_STATEMENT_TIMEOUT = "57014"

# PostgreSQL cannot serve now: it shuts down, recovers, is a standby, or has no connection,
# memory or disk left.
_AWAY = ("57P01", "57P02", "57P03", "08001", "08003", "08006", "25006", "25P03", "53100", "53200", "53300")

# After the first attempt.
_MOST_RETRIES = 3

# Reads run under this session timeout, many times what the largest takes; a write's follows
# its deadline.
_SESSION = (
    "-c TimeZone=UTC -c statement_timeout=2000 -c idle_in_transaction_session_timeout=5000 "
    "-c application_name=krr"
)


class Store:
    """The register's database.

    database_url: SQLAlchemy URL of a PostgreSQL, driver psycopg.
    encode: makes the bytes that read_encoded() gives.
    connections: how many at most; a thread that finds none free waits for one. read_encoded()
        holds others, one for each that ever ran at once.
    require_durable: refuse a PostgreSQL that may forget acknowledged commits.

    epoch names this register's sequence of change numbers; operators are the mailbox
    operators that it knows, account_openers those of them that open accounts for citizens who ask in
    the choice; digest is what its contact info is compared by.

    Raises UnsafeDatabase where the register may not run on it, DBAPIError where it is away.
    """

    def __init__(
        self,
        database_url: str,
        encode: Callable[[Person], bytes],
        *,
        connections: int,
        require_durable: bool = True,
    ) -> None:
        self._engine = create_engine(
            database_url,
            pool_size=connections,
            max_overflow=0,
            hide_parameters=True,
            connect_args={"options": _SESSION, "connect_timeout": 2},
        )
        trace_statements(self._engine)
        keep_prepared(self._engine)
        self._autocommit = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._one_moment = self._engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self._encode = encode
        _, parameters = self._engine.dialect.create_connect_args(self._engine.url)
        self._held = HeldConnections({**parameters, "connect_timeout": 2}, _SESSION)
        try:
            with self._autocommit.connect() as connection:
                if require_durable:
                    check_durability(connection)
                check_schema(connection)
                row = connection.execute(select(tables.register)).one()
                known = connection.execute(select(tables.mailbox_operator)).all()
                self.operators = frozenset(OrganisationNumber(each.organisation_number) for each in known)
                self.account_openers = frozenset(
                    OrganisationNumber(each.organisation_number) for each in known if each.opens_accounts
                )
        except BaseException:
            self.close()
            raise
        self.epoch: uuid.UUID = row.epoch
        self._caller_key: bytes = row.caller_key
        self.digest = digest_with(self._caller_key)

    def read(self, do: Callable[[Reader], Result], *, deadline: float) -> Result:
        """Run reads outside a transaction: each statement sees the newest commits.

        deadline: on time.monotonic(); checked before each attempt. do may run more than once.

        Raises Refusal: DEADLINE, DATABASE_UNAVAILABLE, or what do raises.
        """

        def attempt() -> Result:
            with self._autocommit.connect() as connection:
                return do(Reader(connection))

        return _run(attempt, deadline)

    def read_one_moment(self, do: Callable[[Reader], Result], *, deadline: float) -> Result:
        """As read(), but all statements see the same commits, and each may take until the deadline."""

        def attempt() -> Result:
            with self._one_moment.begin() as connection:
                _limit_statements(connection, deadline)
                return do(Reader(connection))

        return _run(attempt, deadline)

    def read_encoded(self, do: Callable[[EncodedReader], Result], *, deadline: float) -> Result:
        """As read(), for what is read most: persons ready to be sent."""

        def persons(identifiers: Sequence[PersonIdentifier]) -> dict[PersonIdentifier, Person]:
            return self.read(lambda reader: reader.persons(identifiers), deadline=deadline)

        return _run(
            lambda: self._held.run(lambda held: do(EncodedReader(held, persons, self._encode))), deadline
        )

    @overload
    def write(self, caller: Caller, do: Callable[[Transaction], Result], *, deadline: float) -> Result: ...

    @overload
    def write(
        self,
        caller: Caller,
        do: Callable[[Transaction], Answer],
        *,
        deadline: float,
        request: WriteRequest,
    ) -> Answer: ...

    def write(
        self,
        caller: Caller,
        do: Callable[[Transaction], Result | Answer],
        *,
        deadline: float,
        request: WriteRequest | None = None,
    ) -> Result | Answer:
        """Run a write in one transaction, committed when this returns.

        do may run more than once and must do nothing outside the transaction. What it
        raises rolls back. With a request, one that was answered before gets that answer,
        and do does not run.

        Raises Refusal: DEADLINE, CONFLICT, DATABASE_UNAVAILABLE, REQUEST_ID_REUSED, or what
        do raises. After DATABASE_UNAVAILABLE and DEADLINE the write may have been done:
        repeat it with the same request.
        """
        name = self._caller_name(caller)
        if request is not None:
            # Keyed: the body is little more than an identifier, and a plain hash of one is found
            # by trying them all.
            request = replace(request, body_hash=self._keyed(request.body_hash))

        def attempt() -> Result | Answer:
            with self._engine.begin() as connection:
                prepared_on(connection).begin(_milliseconds_until(deadline))
                transaction = Transaction(connection, caller, self.digest, self._encode)
                if request is None:
                    return do(transaction)
                first = transaction.first_answer(name, request)
                if first is not None:
                    return first
                answer = do(transaction)
                assert isinstance(answer, Answer)
                transaction.keep_answer(name, request, answer)
                return answer

        return _run(attempt, deadline)

    def write_many(
        self,
        caller: Caller,
        requests: Sequence[WriteRequest],
        do: Callable[[Transaction, Sequence[int]], Sequence[Answer]],
        *,
        deadline: float,
    ) -> list[Answer | None]:
        """As write() with a request, for many in one transaction: the answer of each; None where its
        id was used for another body.

        requests: no id twice.
        do: gives the answers of those that were not answered before, whose places it gets.

        Raises Refusal: DEADLINE, CONFLICT, DATABASE_UNAVAILABLE, or what do raises.
        """
        name = self._caller_name(caller)
        keyed = [replace(request, body_hash=self._keyed(request.body_hash)) for request in requests]

        def attempt() -> list[Answer | None]:
            with self._engine.begin() as connection:
                prepared_on(connection).begin(_milliseconds_until(deadline))
                transaction = Transaction(connection, caller, self.digest, self._encode)
                answers = transaction.first_answers(name, keyed)
                new = [place for place, each in enumerate(keyed) if each.request_id not in answers]
                given = do(transaction, new)
                kept = {keyed[place].request_id: answer for place, answer in zip(new, given, strict=True)}
                transaction.keep_answers(name, kept)
                return [(answers | kept)[each.request_id] for each in keyed]

        return _run(attempt, deadline)

    def person_key(self, identifier: PersonIdentifier) -> bytes:
        """The person in tables that must not tell who it is."""
        return self._keyed(b"person\0" + identifier.encode())

    def one_time_code(self, message_id: uuid.UUID, value: str) -> str:
        """The six digits that the message tells to whoever reads the address or number."""
        digest = self._keyed(b"code\0" + message_id.bytes + value.encode())
        return f"{int.from_bytes(digest) % 1_000_000:06d}"

    def value_key(self, value: str) -> bytes:
        """An address or number, exactly as it is written, in tables that must not tell it."""
        return self._keyed(b"value\0" + value.encode())

    def forget_old_answers(self, *, deadline: float) -> int:
        """Delete up to 10,000 stored answers that are older than the contract promises to keep
        them; returns how many.

        Raises Refusal: DEADLINE, CONFLICT or DATABASE_UNAVAILABLE.
        """

        def attempt() -> int:
            with self._engine.begin() as connection:
                _limit_statements(connection, deadline)
                return connection.execute(_FORGET_OLD_ANSWERS, {"age": KEEP_ANSWERS}).rowcount

        return _run(attempt, deadline)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()
        self._held.close()

    def _caller_name(self, caller: Caller) -> str:
        if caller.kind is not CallerKind.CITIZEN:
            return f"{caller.kind}/{caller.subject}"
        # The stored requests outlive the citizen's entry, so they know a pseudonym only.
        return f"{caller.kind}/{self._keyed(caller.subject.encode()).hex()[:32]}"

    def _keyed(self, value: bytes) -> bytes:
        return hmac.digest(self._caller_key, value, "sha256")


def _run(attempt: Callable[[], Result], deadline: float) -> Result:
    """Run the attempt again on what a second run can cure, and turn the rest into refusals."""
    try:
        try:
            return _in_time(attempt, deadline)
        except (DBAPIError, psycopg.Error) as error:
            if not _is_curable(error):
                raise
        # Only now: retrying costs as much as a small read, also where nothing has to be tried again.
        result: Result = _retrying(_in_time, attempt, deadline)
        return result
    except (DBAPIError, psycopg.Error) as error:
        # Not chained: a driver's message may quote what it was given.
        if _is_disconnect(error):
            raise Refusal(Reason.DATABASE_UNAVAILABLE) from None
        if _is_conflict(error):
            raise Refusal(Reason.CONFLICT) from None
        if _sqlstate(error) == _STATEMENT_TIMEOUT:
            raise Refusal(Reason.DEADLINE) from None
        raise


def _in_time(attempt: Callable[[], Result], deadline: float) -> Result:
    if time.monotonic() >= deadline:
        raise Refusal(Reason.DEADLINE)
    return attempt()


def _is_curable(error: BaseException) -> bool:
    return _is_conflict(error) or _is_disconnect(error)


def _gives_up(state: tenacity.RetryCallState) -> bool:
    deadline: float = state.args[1]
    return state.attempt_number >= _MOST_RETRIES or time.monotonic() >= deadline


_retrying = tenacity.Retrying(
    retry=tenacity.retry_if_exception(_is_curable),
    stop=_gives_up,
    wait=tenacity.wait_random_exponential(multiplier=0.01, max=0.2),
    reraise=True,
)


def _limit_statements(connection: Connection, deadline: float) -> None:
    connection.execute(
        text("SELECT set_config('statement_timeout', :limit, true)"),
        {"limit": str(_milliseconds_until(deadline))},
    )


def _milliseconds_until(deadline: float) -> int:
    return max(1, int((deadline - time.monotonic()) * 1000))


def _sqlstate(error: BaseException) -> str | None:
    original = error.orig if isinstance(error, DBAPIError) else error
    return original.sqlstate if isinstance(original, psycopg.Error) else None


def _is_conflict(error: BaseException) -> bool:
    return _sqlstate(error) in _CONFLICTS


def _is_disconnect(error: BaseException) -> bool:
    original = error.orig if isinstance(error, DBAPIError) else error
    return (
        (isinstance(error, DBAPIError) and error.connection_invalidated)
        or _sqlstate(error) in _AWAY
        # No state at all: the connection could not be opened, or broke.
        or (isinstance(original, psycopg.OperationalError) and _sqlstate(error) is None)
    )
