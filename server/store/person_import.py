"""Imports: persons entered in chunks, each in one transaction that also says how far the import is.

So a kill loses nothing that was acknowledged and doubles nothing, whoever sends what again.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from server.domain.errors import InvalidValue, Reason, Refusal
from server.domain.identifiers import PersonIdentifier
from server.store.person_staging import StagedPerson, enter_staged, stage
from server.store.tables import person_import, person_import_rejection
from server.store.transaction import Reader, Transaction

# Of finished imports; as long as first answers to other requests.
KEEP = timedelta(days=90)
# From here on the planner's statistics are made anew at the end, not left to chance.
_MANY = 10_000
_FORGOTTEN_AT_ONCE = 10_000

_PRESENT = text("""
    SELECT identifier, coalesce(change_number <= (
        SELECT chunk.last_change_number FROM person_import_chunk AS chunk
        WHERE chunk.import_id = :import_id AND chunk.first_change_number <= person.change_number
        ORDER BY chunk.first_change_number DESC LIMIT 1
    ), false) AS of_this_import
    FROM person WHERE identifier = ANY(CAST(:identifiers AS text[]))
""")

# Values of which some person's flag says something else than the count.
_NOTE_WRONG = {
    "email": text("""
        INSERT INTO shared_recount (kind, digest)
        SELECT 'email', email_digest FROM person WHERE email_digest IS NOT NULL GROUP BY email_digest
        HAVING CASE WHEN count(*) > 1 THEN NOT bool_and(email_shared) ELSE bool_or(email_shared) END
    """),
    "mobile": text("""
        INSERT INTO shared_recount (kind, digest)
        SELECT 'mobile', mobile_digest FROM person WHERE mobile_digest IS NOT NULL GROUP BY mobile_digest
        HAVING CASE WHEN count(*) > 1 THEN NOT bool_and(mobile_shared) ELSE bool_or(mobile_shared) END
    """),
}
_ANALYZE = text("ANALYZE person, mailbox, mailbox_change")


class PersonImport(NamedTuple):
    """An import, as it stands. All rows up to received_row, inclusive, are done."""

    id: uuid.UUID
    check_only: bool
    received_row: int
    loaded_count: int
    present_count: int
    rejected_count: int
    created_time: datetime
    finished_time: datetime | None


class Rejection(NamedTuple):
    """A row that is not taken: the path of the field that is to blame, and the Reason's name."""

    row: int
    field: str
    reason: str


def open_import(
    transaction: Transaction, import_id: uuid.UUID, check_only: bool
) -> tuple[PersonImport, bool]:
    """The import, begun where it is not known yet; and whether it was begun.

    Raises InvalidValue: INVALID_FIELD where check_only is not as it was at the beginning.
    """
    values = {
        "id": import_id,
        "check_only": check_only,
        "received_row": 0,
        "loaded_count": 0,
        "present_count": 0,
        "rejected_count": 0,
        "created_time": func.now(),
    }
    statement = upsert(person_import).values(values).on_conflict_do_nothing().returning(person_import.c.id)
    begun = transaction.connection.scalar(statement) is not None
    imported = find_import(transaction, import_id)
    if imported.check_only != check_only:
        raise InvalidValue(Reason.INVALID_FIELD, "check_only", "as when the import began")
    return imported, begun


def enter(
    transaction: Transaction,
    import_id: uuid.UUID,
    rows: Sequence[StagedPerson | Rejection],
    *,
    check_only: bool = False,
    wait_for_turn: Callable[[], object] = lambda: None,
) -> PersonImport:
    """Do the rows that are not done yet: enter those persons that are new, without deliveries,
    messages and history, and keep the rejections. The register's persons are left alone.

    rows: by rising numbers, at least one.
    check_only: as the import was opened.
    wait_for_turn: called when the rows have been copied; to return when those before are done.

    Raises Refusal: UNKNOWN_IMPORT, or IMPORT_FINISHED where any row is not done yet.
    """
    connection = transaction.connection
    persons = [row for row in rows if isinstance(row, StagedPerson)]
    if persons and not check_only:
        stage(transaction, persons)
    wait_for_turn()
    imported = _locked(transaction, import_id)
    due = [row for row in rows if row.row > imported.received_row]
    if not due:
        return imported
    if imported.finished_time:
        raise Refusal(Reason.IMPORT_FINISHED)
    identifiers = [row.identifier for row in due if isinstance(row, StagedPerson)]
    # Digits only, so they need no quotes.
    parameters = {"import_id": import_id, "identifiers": f"{{{','.join(identifiers)}}}"}
    found = connection.execute(_PRESENT, parameters).all()
    new, rejections = _sort_out(due, {row.identifier: row.of_this_import for row in found})
    if rejections:
        connection.execute(
            insert(person_import_rejection),
            [{"import_id": import_id, **each._asdict()} for each in rejections],
        )
    table = person_import
    done = connection.execute(
        update(table)
        .where(table.c.id == import_id)
        .values(
            received_row=due[-1].row,
            loaded_count=table.c.loaded_count + len(new),
            present_count=table.c.present_count + len(due) - len(new) - len(rejections),
            rejected_count=table.c.rejected_count + len(rejections),
        )
        .returning(table)
    ).one()
    if new and not check_only:
        if len(new) < len(persons):
            stage(transaction, new)
        enter_staged(transaction, new, import_id)
    return PersonImport(*done)


def finish(transaction: Transaction, import_id: uuid.UUID) -> tuple[PersonImport, bool]:
    """Finish the import, and have the flags of all shared contact info put right soon after;
    and whether it was this that finished it. Takes seconds for millions of persons.

    Raises Refusal: UNKNOWN_IMPORT.
    """
    imported = _locked(transaction, import_id)
    if imported.finished_time:
        return imported, False
    connection = transaction.connection
    if imported.loaded_count and not imported.check_only:
        if imported.loaded_count >= _MANY:
            # The planner must know that the tables are large now: a small sample tells it.
            connection.execute(text("SET LOCAL default_statistics_target = 10"))
            connection.execute(_ANALYZE)
        # All values, grouped in memory. Whose values change meanwhile is noted by whoever changes them.
        connection.execute(text("SET LOCAL work_mem = '64MB'"))
        for note in _NOTE_WRONG.values():
            connection.execute(note)
    finished = connection.execute(
        update(person_import)
        .where(person_import.c.id == import_id)
        .values(finished_time=func.now())
        .returning(person_import)
    ).one()
    return PersonImport(*finished), True


def find_import(reader: Reader, import_id: uuid.UUID) -> PersonImport:
    """The import. Raises Refusal: UNKNOWN_IMPORT."""
    statement = select(person_import).where(person_import.c.id == import_id)
    row = reader.connection.execute(statement).one_or_none()
    if row is None:
        raise Refusal(Reason.UNKNOWN_IMPORT)
    return PersonImport(*row)


def list_rejections(reader: Reader, import_id: uuid.UUID, after: int, limit: int) -> list[Rejection]:
    """The import's next rejections after the row `after`, exclusive. Raises Refusal: UNKNOWN_IMPORT."""
    find_import(reader, import_id)
    table = person_import_rejection
    rows = reader.connection.execute(
        select(table.c.row, table.c.field, table.c.reason)
        .where(table.c.import_id == import_id, table.c.row > after)
        .order_by(table.c.row)
        .limit(limit)
    )
    return [Rejection(*row) for row in rows]


def forget_old_imports(transaction: Transaction) -> int:
    """Delete some of what is left of imports that were finished long ago; returns how many are gone."""
    connection = transaction.connection
    old = person_import.c.finished_time < func.now() - KEEP
    # A few at a time: one import may have rejected millions.
    rejected = (
        select(person_import_rejection.c.import_id, person_import_rejection.c.row)
        .join(person_import)
        .where(old)
        .limit(_FORGOTTEN_AT_ONCE)
        .subquery()
    )
    connection.execute(
        delete(person_import_rejection).where(
            person_import_rejection.c.import_id == rejected.c.import_id,
            person_import_rejection.c.row == rejected.c.row,
        )
    )
    rejected_there = select(person_import_rejection.c.row).where(
        person_import_rejection.c.import_id == person_import.c.id
    )
    return connection.execute(delete(person_import).where(old, ~rejected_there.exists())).rowcount


def _locked(transaction: Transaction, import_id: uuid.UUID) -> PersonImport:
    statement = select(person_import).where(person_import.c.id == import_id).with_for_update()
    row = transaction.connection.execute(statement).one_or_none()
    if row is None:
        raise Refusal(Reason.UNKNOWN_IMPORT)
    return PersonImport(*row)


def _sort_out(
    rows: Sequence[StagedPerson | Rejection], present: Mapping[PersonIdentifier, bool]
) -> tuple[list[StagedPerson], list[Rejection]]:
    """Those to be entered and those rejected; the others were in the register before the import.

    present: those in the register, and whether this import entered them.
    """
    new: dict[PersonIdentifier, StagedPerson] = {}
    rejections = []
    for row in rows:
        if isinstance(row, Rejection):
            rejections.append(row)
        elif present.get(row.identifier, row.identifier in new):
            rejections.append(Rejection(row.row, "identifier", Reason.DUPLICATE_ROW.name))
        elif row.identifier not in present:
            new[row.identifier] = row
    return list(new.values()), rejections
