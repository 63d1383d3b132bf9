"""What one transaction can do: read persons, lock one, record a change."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, text, update

from server.domain.caller import Caller, CallerKind
from server.domain.change import Change
from server.domain.errors import Reason, Refusal
from server.domain.identifiers import PersonIdentifier
from server.domain.person import Person
from server.store import tables
from server.store.mailbox_writes import Numbered, lock_what_follows, write_what_follows
from server.store.message_tables import message, verification_code
from server.store.prepared import Run, prepared_on
from server.store.rows import (
    Digest,
    load_persons,
    person_of,
    person_values,
    select_persons,
)
from server.store.shared_contact import note_for_recount
from server.store.write_statements import (
    CHANGE_MAILBOXES_OF_MANY,
    CHANGE_PERSON,
    CLAIM_REQUEST,
    CLAIM_REQUESTS,
    ENTER_PERSON,
    FIRST_ANSWER,
    FIRST_ANSWERS,
    KEEP_ANSWER,
    KEEP_ANSWERS,
    LOCK_PERSON,
    LOCK_PERSONS,
    MAILBOXES,
    MAILBOXES_OF_MANY,
)

# Of one who had the like before, that stays.
_MOVE_UNLESS_THERE = (
    text("""
        UPDATE campaign_person AS moved SET person_id = :to WHERE person_id = :of AND NOT EXISTS (
            SELECT FROM campaign_person WHERE person_id = :to AND case_id = moved.case_id)
    """),
    text("""
        UPDATE contact_reminder AS moved SET person_id = :to WHERE person_id = :of AND NOT EXISTS (
            SELECT FROM contact_reminder WHERE person_id = :to AND contact_kind = moved.contact_kind
              AND step_months = moved.step_months AND last_seen_time = moved.last_seen_time)
    """),
)

# Of Change.fields().
_OF_MAILBOXES = frozenset({"mailboxes", "chosen"})


@dataclass(frozen=True)
class Answer:
    """What a write answered: kept with its request, so it holds nothing personal."""

    result: str
    change_number: int = 0
    affected_count: int = 0
    duplicate: bool = False


@dataclass(frozen=True)
class WriteRequest:
    """What makes a repeated write known: the caller's id for it and a hash of its body."""

    request_id: uuid.UUID
    body_hash: bytes


class Reader:
    """Reads of one moment each; what a Transaction reads sees its own writes."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def persons(self, identifiers: Sequence[PersonIdentifier]) -> dict[PersonIdentifier, Person]:
        """The persons, in one statement; those never registered as NOT_REGISTERED."""
        found = load_persons(self.connection, select_persons(identifiers)).values()
        registered = {person.identifier: person for person in found}
        return {each: registered.get(each) or Person(identifier=each) for each in identifiers}

    def last_change_number(self) -> int:
        """The highest change number committed."""
        return self.connection.scalar(select(tables.register.c.last_change_number)) or 0


class Transaction(Reader):
    """A write under way. Locks are taken in one order everywhere: persons by identifier,
    then operators' sequences, then deliveries and messages, then the counter of change numbers.
    Nothing waits after the counter, whose lock is held until the commit.
    """

    def __init__(
        self, connection: Connection, caller: Caller, digest: Digest, encode: Callable[[Person], bytes]
    ) -> None:
        super().__init__(connection)
        # Runs a prepared statement; the rows by column.
        self.run: Run = prepared_on(connection).run
        self._caller_kind = caller.kind
        self._digest = digest
        self._encode = encode
        self._row_ids: dict[PersonIdentifier, int] = {}

    def act_for(self, kind: CallerKind) -> None:
        """Let the history say from here on that this kind of caller did it."""
        self._caller_kind = kind

    def row_id(self, identifier: PersonIdentifier) -> int:
        """Of a person that was read or entered in this transaction and has a row."""
        return self._row_ids[identifier]

    def person(self, identifier: PersonIdentifier) -> Person:
        """The person, locked until the end; NOT_REGISTERED for one without a row."""
        for row in self.run(LOCK_PERSON, identifier=identifier):
            self._row_ids[identifier] = row["id"]
            # A statement of its own: the one that waited for the lock would read mailboxes from
            # before the wait.
            return person_of(row, self.run(MAILBOXES, person_id=row["id"]))
        return Person(identifier=identifier)

    def lock_persons(self, identifiers: Sequence[PersonIdentifier]) -> dict[PersonIdentifier, Person]:
        """As person(), for several at once."""
        rows = self.run(LOCK_PERSONS, identifiers=identifiers)
        self._row_ids |= {row["identifier"]: row["id"] for row in rows}
        boxes: dict[int, list[dict[str, Any]]] = {row["id"]: [] for row in rows}
        for box in self.run(MAILBOXES_OF_MANY, person_ids=list(boxes)) if boxes else ():
            boxes[box["person_id"]].append(box)
        found = {row["identifier"]: person_of(row, boxes[row["id"]]) for row in rows}
        return {each: found.get(each) or Person(identifier=each) for each in identifiers}

    def record(self, changes: Sequence[Change], now: datetime) -> list[int]:
        """Write what changed, its history, deliveries and messages; return the change numbers.

        The persons must have been read in this transaction, locked in the order of their
        identifiers. Where nothing changed, nothing is written and the number is that of the
        last change. Who takes another over comes before that one: history, messages and
        evidence move as they are.
        """
        real = {place: fields for place, change in enumerate(changes) if (fields := change.fields())}
        numbers = [change.before.change_number for change in changes]
        if not real:
            return numbers
        in_question = [changes[place] for place in real]
        self._lock_what_follows(in_question)
        note_for_recount(self.connection, self._digest, in_question)
        if len(real) > 1 and all(_OF_MAILBOXES.issuperset(fields) for fields in real.values()):
            given = self._write_mailboxes_of_many(in_question, list(real.values()), now)
        else:
            given = [
                self._write(change, real[place], now) for place, change in zip(real, in_question, strict=True)
            ]
        for place, number in zip(real, given, strict=True):
            numbers[place] = number
        return numbers

    def _write(self, change: Change, fields: Sequence[str], now: datetime) -> int:
        # From here on the counter is locked.
        row_id, number = self._write_person(change, fields, now)
        if change.takes_over:
            self._move_record(self._row_ids[change.takes_over], row_id)
        write_what_follows(self.run, [Numbered(row_id, change, number)])
        return number

    def _write_mailboxes_of_many(
        self, changes: Sequence[Change], fields: Sequence[Sequence[str]], now: datetime
    ) -> Sequence[int]:
        """Write changes of nothing but mailboxes and the choice; the numbers."""
        row_ids = [self._row_ids[change.before.identifier] for change in changes]
        encoded = [self._encode(change.after) for change in changes]
        # From here on the counter is locked.
        numbers = self.take_change_numbers(len(changes))
        entries = [
            (row_id, number, field)
            for row_id, number, of_one in zip(row_ids, numbers, fields, strict=True)
            for field in of_one
        ]
        ids_of_entries, numbers_of_entries, fields_of_entries = map(list, zip(*entries, strict=True))
        self.run(
            CHANGE_MAILBOXES_OF_MANY,
            ids=row_ids,
            numbers=list(numbers),
            encoded=encoded,
            entry_ids=ids_of_entries,
            entry_numbers=numbers_of_entries,
            entry_fields=fields_of_entries,
            now=now,
            caller_kind=self._caller_kind.value,
        )
        write_what_follows(self.run, list(map(Numbered, row_ids, changes, numbers)))
        return numbers

    def first_answer(self, caller: str, request: WriteRequest) -> Answer | None:
        """Claim the request id; the stored answer where the request was answered before.

        Waits for the same request under way elsewhere. Raises Refusal: REQUEST_ID_REUSED.
        """
        key = {"caller": caller, "request_id": request.request_id}
        if self.run(CLAIM_REQUEST, **key, body_hash=request.body_hash):
            return None
        [first] = self.run(FIRST_ANSWER, **key)
        if first["body_hash"] != request.body_hash:
            raise Refusal(Reason.REQUEST_ID_REUSED)
        return Answer(first["result"], first["change_number"], first["affected_count"], duplicate=True)

    def keep_answer(self, caller: str, request: WriteRequest, answer: Answer) -> None:
        """Store the answer with the claimed request id."""
        self.run(
            KEEP_ANSWER,
            caller=caller,
            request_id=request.request_id,
            result=answer.result,
            change_number=answer.change_number,
            affected_count=answer.affected_count,
        )

    def first_answers(self, caller: str, requests: Sequence[WriteRequest]) -> dict[uuid.UUID, Answer | None]:
        """As first_answer(), for several at once, no id twice: those that were answered before; None
        where with another body.
        """
        given = {request.request_id: request.body_hash for request in requests}
        claimed = self.run(
            CLAIM_REQUESTS, caller=caller, request_ids=list(given), body_hashes=list(given.values())
        )
        known = list(given.keys() - {row["request_id"] for row in claimed})
        if not known:
            return {}
        return {
            first["request_id"]: Answer(
                first["result"], first["change_number"], first["affected_count"], duplicate=True
            )
            if first["body_hash"] == given[first["request_id"]]
            else None
            for first in self.run(FIRST_ANSWERS, caller=caller, request_ids=known)
        }

    def keep_answers(self, caller: str, answers: Mapping[uuid.UUID, Answer]) -> None:
        """As keep_answer(), for several at once."""
        if answers:
            self.run(
                KEEP_ANSWERS,
                caller=caller,
                request_ids=list(answers),
                results=[answer.result for answer in answers.values()],
                change_numbers=[answer.change_number for answer in answers.values()],
                affected_counts=[answer.affected_count for answer in answers.values()],
            )

    def _lock_what_follows(self, changes: Sequence[Change]) -> None:
        present = [
            (self._row_ids[change.before.identifier], change)
            for change in changes
            if change.before.identifier in self._row_ids
        ]
        taken_over = [self._row_ids[change.takes_over] for change in changes if change.takes_over]
        lock_what_follows(self.run, present, taken_over)

    def take_change_numbers(self, count: int) -> range:
        """The next change numbers. The counter is locked from here on: nothing may wait after it."""
        table = tables.register
        last: int = self.connection.execute(
            update(table)
            .values(last_change_number=table.c.last_change_number + count)
            .returning(table.c.last_change_number)
        ).scalar_one()
        return range(last - count + 1, last + 1)

    def _write_person(self, change: Change, fields: Sequence[str], now: datetime) -> tuple[int, int]:
        """Take a number, write the person's row and history; the row's id and the number."""
        identifier = change.after.identifier
        # Two who enter the same new person at once: the later finds the row here, after the
        # counter let it pass, and its whole transaction is run again.
        [row] = self.run(
            CHANGE_PERSON if identifier in self._row_ids else ENTER_PERSON,
            **self._person_values(change.after),
            now=now,
            fields=list(map(str, fields)),
            caller_kind=self._caller_kind.value,
        )
        self._row_ids[identifier] = row["id"]
        return row["id"], row["last_change_number"]

    def _person_values(self, person: Person) -> dict[str, Any]:
        return {**person_values(person, self._digest), "encoded": self._encode(person)}

    def _move_record(self, of: int, to: int) -> None:
        for table in (tables.history, tables.mailbox_evidence, message, verification_code):
            self.connection.execute(update(table).where(table.c.person_id == of).values(person_id=to))
        for statement in _MOVE_UNLESS_THERE:
            self.connection.execute(statement, {"of": of, "to": to})
