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
    load_persons,
    mailbox_values,
    person_values,
    persons_in_one_statement,
    select_persons,
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

    def changes(self, after: int, limit: int) -> list[Person]:
        """The next persons by change number after `after`, exclusive; tombstones included."""
        page = (
            select(tables.person)
            .where(tables.person.c.change_number > after)
            .order_by(tables.person.c.change_number)
            .limit(limit)
            .subquery("page")
        )
        statement = persons_in_one_statement(page).order_by(page.c.change_number)
        return list(load_persons(self.connection, statement).values())

    def last_change_number(self) -> int:
        """The highest change number committed."""
        return self.connection.scalar(select(tables.register.c.last_change_number)) or 0


class Transaction(Reader):
    """A write under way. Locks are taken in one order everywhere: persons by identifier,
    then deliveries and messages, then the counter of change numbers. Nothing waits after
    the counter, whose lock is held until the commit.
    """

    def __init__(self, connection: Connection, caller: Caller) -> None:
        super().__init__(connection)
        self._caller_kind = caller.kind
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

    def record(self, change: Change, now: datetime) -> int:
        """Write what changed, its history, deliveries and message; return the change number.

        The person must have been read with person() in this transaction. Where nothing
        changed, nothing is written and the number is that of the last change.
        """
        fields = change.fields()
        if not fields:
            return change.before.change_number
        self._lock_what_follows(change)
        number = self._take_change_numbers(1)
        after = replace(change.after, change_number=number)
        row_id = self._write_person(after)
        self._write_mailboxes(row_id, change)
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
        first = self._take_change_numbers(len(new)) - len(new) + 1
        numbered = [replace(person, change_number=number) for number, person in enumerate(new, start=first)]
        rows = self.connection.execute(
            insert(table).returning(table.c.identifier, table.c.id),
            [person_values(each) for each in numbered],
        )
        row_ids = {row.identifier: row.id for row in rows}
        boxes = [
            {"person_id": row_ids[person.identifier], **mailbox_values(person, box)}
            for person in numbered
            for box in person.mailboxes
        ]
        if boxes:
            self.connection.execute(insert(tables.mailbox), boxes)
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

    def _take_change_numbers(self, count: int) -> int:
        table = tables.register
        last: int = self.connection.execute(
            update(table)
            .values(last_change_number=table.c.last_change_number + count)
            .returning(table.c.last_change_number)
        ).scalar_one()
        return last

    def _write_person(self, person: Person) -> int:
        table = tables.person
        row_id = self._row_ids.get(person.identifier)
        if row_id is not None:
            self.connection.execute(update(table).where(table.c.id == row_id).values(person_values(person)))
            return row_id
        # Two who enter the same new person at once: the later finds the row here, after the
        # counter let it pass, and its whole transaction is run again.
        new_row_id: int = self.connection.execute(
            insert(table).values(person_values(person)).returning(table.c.id)
        ).scalar_one()
        return new_row_id

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
