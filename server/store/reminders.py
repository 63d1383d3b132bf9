"""Finds persons whose contact info grows stale, batch by batch, and writes their reminders."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from server.domain.message import Channel, NewMessage
from server.domain.person import Language, Person
from server.domain.reminder import NotReminded, PointStep, Reminder, reminder_of
from server.store.message_writes import Addressed, write_messages
from server.store.prepared import Statement, run_for
from server.store.rows import person_of
from server.store.transaction import Transaction

# No month is as short, also where clocks skip an hour: what the database finds is more than what is
# due, never less.
_SHORTEST_MONTH = timedelta(days=27)

_STALE = " OR ".join(
    f"greatest({kind}_updated_time, {kind}_confirmed_time, {kind}_validated_time) < %(before)s::timestamptz"
    for kind in ("email", "mobile")
)

_COUNT_BATCH = Statement(
    "count_batch_for_reminders",
    """
    SELECT coalesce(max(id), 0) AS last_id, count(*) AS examined,
        count(*) FILTER (WHERE status <> 'ACTIVE') AS deleted,
        count(*) FILTER (WHERE status = 'ACTIVE' AND email IS NULL AND mobile IS NULL) AS no_contact
    FROM (SELECT id, status, email, mobile FROM person WHERE id > %(after)s::bigint
        ORDER BY id LIMIT %(limit)s::bigint) AS batch
    """,
)

_FIND_STALE = Statement(
    "find_stale_contact",
    f"""
    SELECT * FROM person
    WHERE id > %(after)s::bigint AND id <= %(last_id)s::bigint AND status = 'ACTIVE' AND ({_STALE})
    """,  # noqa: S608 (a condition from above)
)

_READ_REMINDED = Statement(
    "read_reminders",
    """
    SELECT person_id, contact_kind, step_months, last_seen_time FROM contact_reminder
    WHERE person_id = ANY(%(person_ids)s::bigint[])
    """,
)

_ENTER_STEPS = Statement(
    "enter_reminders",
    """
    INSERT INTO contact_reminder (person_id, contact_kind, step_months, last_seen_time, created_time)
    SELECT new.*, now() FROM unnest(%(person_ids)s::bigint[], %(kinds)s::text[], %(months)s::smallint[],
        %(last_seen)s::timestamptz[]) AS new
    """,
)

_COUNT_PERSONS = Statement("count_persons", "SELECT count(*) AS persons FROM person")


@dataclass(frozen=True)
class ReminderBatch:
    """What became of a batch.

    last: row id of the last person looked at; None where that was the last of all.
    written: messages by step and channel.
    not_reminded: the persons who get none.
    """

    examined: int
    last: int | None
    written: Mapping[tuple[int, Channel], int]
    not_reminded: Mapping[NotReminded, int]


def remind_batch(
    transaction: Transaction, now: datetime, steps: Sequence[int], *, after: int, limit: int, dry_run: bool
) -> ReminderBatch:
    """Look at the next persons by row id, and write to those who are to be reminded.

    steps: in months, rising.
    """
    run = transaction.run
    [batch] = run(_COUNT_BATCH, after=after, limit=limit)
    before = now - _SHORTEST_MONTH * steps[0]
    rows = run(_FIND_STALE, after=after, last_id=batch["last_id"], before=before)
    stale = {row["id"]: person_of(row, ()) for row in rows}
    judged = _judge(transaction, stale, now, steps)
    to_remind = {row_id: stale[row_id] for row_id, each in judged.items() if isinstance(each, Reminder)}
    if to_remind and not dry_run:
        # Looked at again under their locks: somebody may have confirmed, or another have reminded them.
        locked = transaction.lock_persons(sorted(person.identifier for person in to_remind.values()))
        under_lock = {transaction.row_id(identifier): person for identifier, person in locked.items()}
        again = _judge(transaction, under_lock, now, steps)
        _write(transaction, under_lock, again)
        judged |= again
    written = Counter(
        (each.step_months, each.channel) for each in judged.values() if isinstance(each, Reminder)
    )
    not_reminded = Counter(each for each in judged.values() if isinstance(each, NotReminded))
    not_reminded[NotReminded.DELETED] += batch["deleted"]
    not_reminded[NotReminded.NO_CONTACT] += batch["no_contact"]
    fresh = batch["examined"] - written.total() - not_reminded.total()
    not_reminded[NotReminded.FRESH] += fresh
    return ReminderBatch(
        examined=batch["examined"],
        last=batch["last_id"] if batch["examined"] == limit else None,
        written=written,
        not_reminded=+not_reminded,
    )


def count_persons(transaction: Transaction) -> int:
    """How many persons the register holds."""
    [row] = transaction.run(_COUNT_PERSONS)
    return int(row["persons"])


def _judge(
    transaction: Transaction, persons: Mapping[int, Person], now: datetime, steps: Sequence[int]
) -> dict[int, Reminder | NotReminded]:
    reminded: dict[int, set[PointStep]] = {row_id: set() for row_id in persons}
    for row in transaction.run(_READ_REMINDED, person_ids=list(persons)) if persons else ():
        reminded[row["person_id"]].add(_step(row))
    return {row_id: reminder_of(person, now, steps, reminded[row_id]) for row_id, person in persons.items()}


def _write(
    transaction: Transaction, persons: Mapping[int, Person], judged: Mapping[int, Reminder | NotReminded]
) -> None:
    reminders = {row_id: each for row_id, each in judged.items() if isinstance(each, Reminder)}
    steps = [(row_id, *step) for row_id, each in reminders.items() for step in each.steps]
    run_for(transaction.run, _ENTER_STEPS, ("person_ids", "kinds", "months", "last_seen"), steps)
    write_messages(
        transaction.run,
        [
            Addressed(
                row_id,
                NewMessage(
                    kind=each.kind,
                    channel=each.channel,
                    language=persons[row_id].language or Language.NB,
                    deadline=each.deadline,
                ),
            )
            for row_id, each in reminders.items()
        ],
    )


def _step(row: dict[str, Any]) -> PointStep:
    return PointStep(row["contact_kind"], row["step_months"], row["last_seen_time"])
