"""What one transaction can do: read persons, lock one, record a change."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from server.domain.caller import Caller
from server.domain.contact import ContactKind
from server.domain.errors import Reason, Refusal
from server.domain.identifiers import OrganisationNumber, PersonIdentifier
from server.domain.person import Change, Language, OperatorState, Person
from server.store import tables
from server.store.prepared import prepared_on
from server.store.rows import (
    Digest,
    load_persons,
    mailbox_values,
    person_of,
    person_values,
    select_persons,
)
from server.store.shared_contact import note_for_recount
from server.store.trace_parent import current_trace_parent
from server.store.write_statements import (
    CHANGE_PERSON,
    CLAIM_REQUEST,
    ENTER_PERSON,
    FIRST_ANSWER,
    KEEP_ANSWER,
    LOCK_PERSON,
    MAILBOXES,
)

NO_MOBILE = "NO_MOBILE"


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
    then deliveries and messages, then the counter of change numbers. Nothing waits after
    the counter, whose lock is held until the commit.
    """

    def __init__(
        self, connection: Connection, caller: Caller, digest: Digest, encode: Callable[[Person], bytes]
    ) -> None:
        super().__init__(connection)
        self._run = prepared_on(connection).run
        self._caller_kind = caller.kind
        self._digest = digest
        self._encode = encode
        self._row_ids: dict[PersonIdentifier, int] = {}

    def person(self, identifier: PersonIdentifier) -> Person:
        """The person, locked until the end; NOT_REGISTERED for one without a row."""
        for row in self._run(LOCK_PERSON, identifier=identifier):
            self._row_ids[identifier] = row["id"]
            # A statement of its own: the one that waited for the lock would read mailboxes from
            # before the wait.
            return person_of(row, self._run(MAILBOXES, person_id=row["id"]))
        return Person(identifier=identifier)

    def record(self, changes: Sequence[Change], now: datetime) -> list[int]:
        """Write what changed, its history, deliveries and messages; return the change numbers.

        The persons must have been read in this transaction, locked in the order of their
        identifiers. Where nothing changed, nothing is written and the number is that of the
        last change. Who takes another over comes before that one: history and messages move
        as they are.
        """
        real = [change for change in changes if change.fields()]
        if not real:
            return [change.before.change_number for change in changes]
        for change in real:
            self._lock_what_follows(change)
        note_for_recount(self.connection, self._digest, real)
        return [
            self._write(change, now) if change.fields() else change.before.change_number for change in changes
        ]

    def _write(self, change: Change, now: datetime) -> int:
        # From here on the counter is locked.
        row_id, number = self._write_person(change, now)
        if change.takes_over:
            self._move_record(self._row_ids[change.takes_over], row_id)
        self._write_mailboxes(row_id, change)
        self._note_mailbox_changes([(row_id, operator, number) for operator in change.operators_concerned()])
        self._write_deliveries(row_id, change, number)
        chosen = change.newly_chosen()
        if chosen:
            self._write_message(row_id, replace(change.after, change_number=number), chosen)
        if _loses_mobile(change):
            self._forget_recipient(row_id)
        return number

    def first_answer(self, caller: str, request: WriteRequest) -> Answer | None:
        """Claim the request id; the stored answer where the request was answered before.

        Waits for the same request under way elsewhere. Raises Refusal: REQUEST_ID_REUSED.
        """
        key = {"caller": caller, "request_id": request.request_id}
        if self._run(CLAIM_REQUEST, **key, body_hash=request.body_hash):
            return None
        [first] = self._run(FIRST_ANSWER, **key)
        if first["body_hash"] != request.body_hash:
            raise Refusal(Reason.REQUEST_ID_REUSED)
        return Answer(first["result"], first["change_number"], first["affected_count"], duplicate=True)

    def keep_answer(self, caller: str, request: WriteRequest, answer: Answer) -> None:
        """Store the answer with the claimed request id."""
        self._run(
            KEEP_ANSWER,
            caller=caller,
            request_id=request.request_id,
            result=answer.result,
            change_number=answer.change_number,
            affected_count=answer.affected_count,
        )

    def _lock_what_follows(self, change: Change) -> None:
        if change.takes_over:
            self._lock(tables.message, self._row_ids[change.takes_over])
        row_id = self._row_ids.get(change.before.identifier)
        if row_id is None:
            return
        if change.operators_to_tell():
            self._lock(tables.delivery, row_id)
        if change.newly_chosen() or _loses_mobile(change):
            self._lock(tables.message, row_id)

    def _lock(self, table: Any, row_id: int) -> None:
        self.connection.execute(
            select(table.c.id).where(table.c.person_id == row_id).order_by(table.c.id).with_for_update()
        )

    def take_change_numbers(self, count: int) -> range:
        """The next change numbers. The counter is locked from here on: nothing may wait after it."""
        table = tables.register
        last: int = self.connection.execute(
            update(table)
            .values(last_change_number=table.c.last_change_number + count)
            .returning(table.c.last_change_number)
        ).scalar_one()
        return range(last - count + 1, last + 1)

    def _write_person(self, change: Change, now: datetime) -> tuple[int, int]:
        """Take a number, write the person's row and history; the row's id and the number."""
        identifier = change.after.identifier
        # Two who enter the same new person at once: the later finds the row here, after the
        # counter let it pass, and its whole transaction is run again.
        [row] = self._run(
            CHANGE_PERSON if identifier in self._row_ids else ENTER_PERSON,
            **self._person_values(change.after),
            now=now,
            fields=[str(field) for field in change.fields()],
            caller_kind=self._caller_kind.value,
        )
        self._row_ids[identifier] = row["id"]
        return row["id"], row["last_change_number"]

    def _person_values(self, person: Person) -> dict[str, Any]:
        return {**person_values(person, self._digest), "encoded": self._encode(person)}

    def _move_record(self, of: int, to: int) -> None:
        for table in (tables.history, tables.message):
            self.connection.execute(update(table).where(table.c.person_id == of).values(person_id=to))

    def _write_mailboxes(self, row_id: int, change: Change) -> None:
        table = tables.mailbox
        before, after = change.before, change.after
        told = change.operators_to_tell()
        operators = {box.operator for box in (*before.mailboxes, *after.mailboxes)}
        # The old choice goes first: the database allows one chosen mailbox at any moment.
        for operator in sorted(operators, key=lambda each: each == after.chosen):
            here = (table.c.person_id == row_id, table.c.operator == operator)
            old, new = before.mailbox_at(operator), after.mailbox_at(operator)
            if new is None:
                self.connection.execute(delete(table).where(*here))
                continue
            if operator in told:
                new = replace(new, operator_state=OperatorState.PENDING)
            values = mailbox_values(after, new)
            if old is None:
                self.connection.execute(insert(table).values(person_id=row_id, **values))
            elif values != mailbox_values(before, old):
                self.connection.execute(update(table).where(*here).values(values))

    def _note_mailbox_changes(self, noted: Sequence[tuple[int, OrganisationNumber, int]]) -> None:
        if not noted:
            return
        statement = upsert(tables.mailbox_change)
        self.connection.execute(
            statement.on_conflict_do_update(
                index_elements=["person_id", "operator"],
                set_={"change_number": statement.excluded.change_number},
            ),
            [
                {"person_id": row_id, "operator": operator, "change_number": number}
                for row_id, operator, number in noted
            ],
        )

    def _write_deliveries(self, row_id: int, change: Change, number: int) -> None:
        told = change.operators_to_tell()
        if not told:
            return
        # A new change makes the delivery due at once and counts its attempts anew; it leaves
        # a lease alone, whose holder will find that its number is no longer the last.
        due = {
            "change_number": number,
            "created_time": func.now(),
            "not_before_time": func.now(),
            "failed_attempts": 0,
            "last_error_code": None,
            "refused": False,
            "trace_parent": current_trace_parent(),
        }
        for operator in told:
            self.connection.execute(
                upsert(tables.delivery)
                .values(operator=operator, person_id=row_id, **due)
                .on_conflict_do_update(index_elements=["person_id", "operator"], set_=due)
            )

    def _write_message(self, row_id: int, person: Person, chosen: OrganisationNumber) -> None:
        table = tables.message
        self.connection.execute(
            update(table)
            .where(table.c.person_id == row_id, _queued_and_not_leased())
            .values(state="SUPERSEDED")
        )
        reachable = ContactKind.MOBILE in person.contacts
        self.connection.execute(
            insert(table).values(
                id=uuid.uuid4(),
                person_id=row_id,
                kind="MAILBOX_CHOSEN",
                channel="SMS",
                operator=chosen,
                language=person.language or Language.NB,
                change_number=person.change_number,
                state="QUEUED" if reachable else "SUPPRESSED",
                reason_code=None if reachable else NO_MOBILE,
                receipt_token=uuid.uuid4(),
                created_time=func.now(),
                not_before_time=func.now(),
                failed_attempts=0,
                trace_parent=current_trace_parent(),
            )
        )

    def _forget_recipient(self, row_id: int) -> None:
        table = tables.message
        of_person = update(table).where(table.c.person_id == row_id)
        self.connection.execute(of_person.values(recipient=None))
        # Also touches what a lease may be about to take, so that it cannot put the recipient back.
        self.connection.execute(
            of_person.where(_queued_and_not_leased()).values(state="SUPPRESSED", reason_code=NO_MOBILE)
        )


def _loses_mobile(change: Change) -> bool:
    return ContactKind.MOBILE in change.before.contacts and ContactKind.MOBILE not in change.after.contacts


def _queued_and_not_leased() -> ColumnElement[bool]:
    table = tables.message
    return (table.c.state == "QUEUED") & (func.coalesce(table.c.leased_until_time < func.now(), True))
