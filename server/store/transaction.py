"""What one transaction can do: read persons, lock one, record a change."""

import uuid
from collections.abc import Sequence
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
from server.store.rows import (
    Digest,
    load_persons,
    mailbox_values,
    person_values,
    select_persons,
)
from server.store.shared_contact import note_for_recount, value_of
from server.store.trace_parent import current_trace_parent

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

    def __init__(self, connection: Connection, caller: Caller, digest: Digest) -> None:
        super().__init__(connection)
        self._caller_kind = caller.kind
        self._digest = digest
        self._row_ids: dict[PersonIdentifier, int] = {}

    def person(self, identifier: PersonIdentifier) -> Person:
        """The person, locked until the end; NOT_REGISTERED for one without a row."""
        table = tables.person
        self.connection.execute(select(table.c.id).where(table.c.identifier == identifier).with_for_update())
        # A statement of its own: the one that waited for the lock may have read mailboxes
        # from before the wait.
        for row_id, person in load_persons(self.connection, select_persons([identifier])).items():
            self._row_ids[identifier] = row_id
            return person
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
        numbers = iter(self._take_change_numbers(len(real)))
        return [
            self._write(change, next(numbers), now) if change.fields() else change.before.change_number
            for change in changes
        ]

    def _write(self, change: Change, number: int, now: datetime) -> int:
        fields = change.fields()
        after = replace(change.after, change_number=number)
        row_id = self._write_person(change.before, after)
        if change.takes_over:
            self._move_record(self._row_ids[change.takes_over], row_id)
        self._write_mailboxes(row_id, change)
        self._note_mailbox_changes([(row_id, operator, number) for operator in change.operators_concerned()])
        self.connection.execute(
            insert(tables.history),
            [
                {
                    "person_id": row_id,
                    "change_number": number,
                    "changed_time": now,
                    "field": field,
                    "caller_kind": self._caller_kind.value,
                }
                for field in fields
            ],
        )
        self._write_deliveries(row_id, change, number)
        chosen = change.newly_chosen()
        if chosen:
            self._write_message(row_id, after, chosen)
        if ContactKind.MOBILE in fields and ContactKind.MOBILE not in after.contacts:
            self._forget_recipient(row_id)
        return number

    def load(self, persons: Sequence[Person]) -> int:
        """Enter persons as they are, without deliveries and messages; those who have a row
        are left alone. Returns how many were entered.
        """
        table = tables.person
        identifiers = sorted(person.identifier for person in persons)
        present = self.persons(identifiers)
        new = [person for person in persons if not present[person.identifier].change_number]
        if not new:
            return 0
        note_for_recount(
            self.connection, self._digest, [Change(present[person.identifier], person) for person in new]
        )
        numbers = self._take_change_numbers(len(new))
        numbered = [
            replace(person, change_number=number) for number, person in zip(numbers, new, strict=True)
        ]
        rows = self.connection.execute(
            insert(table).returning(table.c.identifier, table.c.id),
            [person_values(each, self._digest) for each in numbered],
        )
        row_ids = {row.identifier: row.id for row in rows}
        boxes = [(row_ids[person.identifier], person, box) for person in numbered for box in person.mailboxes]
        if boxes:
            self.connection.execute(
                insert(tables.mailbox),
                [{"person_id": row_id, **mailbox_values(person, box)} for row_id, person, box in boxes],
            )
        self._note_mailbox_changes(
            [(row_id, box.operator, person.change_number) for row_id, person, box in boxes]
        )
        return len(new)

    def first_answer(self, caller: str, request: WriteRequest) -> Answer | None:
        """Claim the request id; the stored answer where the request was answered before.

        Waits for the same request under way elsewhere. Raises Refusal: REQUEST_ID_REUSED.
        """
        table = tables.request
        key = {"caller": caller, "request_id": request.request_id}
        # By the row it returns: SQLAlchemy gives no count of rows for an INSERT.
        claimed = self.connection.scalar(
            upsert(table)
            .values(**key, body_hash=request.body_hash)
            .on_conflict_do_nothing()
            .returning(table.c.request_id)
        )
        if claimed is not None:
            return None
        stored = self.connection.execute(
            select(table).where(table.c.caller == caller, table.c.request_id == request.request_id)
        ).one()
        if stored.body_hash != request.body_hash:
            raise Refusal(Reason.REQUEST_ID_REUSED)
        return Answer(stored.result, stored.change_number, stored.affected_count, duplicate=True)

    def keep_answer(self, caller: str, request: WriteRequest, answer: Answer) -> None:
        """Store the answer with the claimed request id."""
        table = tables.request
        self.connection.execute(
            update(table)
            .where(table.c.caller == caller, table.c.request_id == request.request_id)
            .values(
                result=answer.result,
                change_number=answer.change_number,
                affected_count=answer.affected_count,
            )
        )

    def _lock_what_follows(self, change: Change) -> None:
        if change.takes_over:
            self._lock(tables.message, self._row_ids[change.takes_over])
        row_id = self._row_ids.get(change.before.identifier)
        if row_id is None:
            return
        if change.operators_to_tell():
            self._lock(tables.delivery, row_id)
        if change.newly_chosen() or ContactKind.MOBILE in change.fields():
            self._lock(tables.message, row_id)

    def _lock(self, table: Any, row_id: int) -> None:
        self.connection.execute(
            select(table.c.id).where(table.c.person_id == row_id).order_by(table.c.id).with_for_update()
        )

    def _take_change_numbers(self, count: int) -> range:
        table = tables.register
        last: int = self.connection.execute(
            update(table)
            .values(last_change_number=table.c.last_change_number + count)
            .returning(table.c.last_change_number)
        ).scalar_one()
        return range(last - count + 1, last + 1)

    def _write_person(self, before: Person, after: Person) -> int:
        table = tables.person
        row_id = self._row_ids.get(after.identifier)
        if row_id is not None:
            values = person_values(after, self._digest)
            for kind in ContactKind:
                # One that code from before left without is given by the job, which counts it then.
                if value_of(before, kind) == value_of(after, kind):
                    del values[f"{kind}_digest"]
            self.connection.execute(update(table).where(table.c.id == row_id).values(values))
            return row_id
        # Two who enter the same new person at once: the later finds the row here, after the
        # counter let it pass, and its whole transaction is run again.
        new_row_id: int = self.connection.execute(
            insert(table).values(person_values(after, self._digest)).returning(table.c.id)
        ).scalar_one()
        self._row_ids[after.identifier] = new_row_id
        return new_row_id

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
        for operator in change.operators_to_tell():
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


def _queued_and_not_leased() -> ColumnElement[bool]:
    table = tables.message
    return (table.c.state == "QUEUED") & (func.coalesce(table.c.leased_until_time < func.now(), True))
