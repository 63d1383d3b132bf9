"""Messages to people: leased to the adapter of their channel, kept as the record."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import text

from server.domain.contact import ContactKind
from server.domain.identifiers import PersonIdentifier, is_synthetic
from server.domain.message import (
    COMES_AT_ANY_HOUR,
    Channel,
    Due,
    MessageKind,
    Move,
    Send,
    Supersede,
    Suppress,
    judge,
)
from server.store.prepared import Statement, run_for
from server.store.rows import person_of
from server.store.transaction import Reader, Transaction


@dataclass(frozen=True)
class LeasedMessage:
    """A leased message with the recipient as of the lease.

    recipient: empty by letter.
    identifier: of the person; None where it is to an organisation.
    synthetic: whether it concerns synthetic persons.
    """

    id: uuid.UUID
    lease_token: uuid.UUID
    kind: str
    language: str
    recipient: str
    operator_name: str
    contact_kind: str | None
    deadline: date | None
    case_count: int
    identifier: PersonIdentifier | None
    synthetic: bool
    receipt_token: uuid.UUID
    failed_attempts: int
    expires_time: datetime
    trace_parent: str | None


@dataclass(frozen=True)
class MessageRow:
    """Where a message stands, without the person."""

    number: int
    id: uuid.UUID
    kind: str
    channel: str
    language: str
    operator_name: str
    state: str
    reason_code: str | None
    change_number: int
    failed_attempts: int
    gateway: str | None
    parts: int
    cost_class: str | None
    created_time: datetime
    expires_time: datetime
    sent_time: datetime | None
    delivered_time: datetime | None
    trace_parent: str | None


_LOCK_DUE = Statement(
    "lock_due_messages",
    """
    SELECT id FROM message
    WHERE state = 'QUEUED' AND channel = %(channel)s::text
      AND not_before_time <= now()
      AND coalesce(leased_until_time < now(), true)
      AND (%(at_any_hour)s::text[] IS NULL OR kind = ANY(%(at_any_hour)s::text[]))
    ORDER BY not_before_time
    LIMIT %(limit)s::integer
    FOR UPDATE SKIP LOCKED
    """,
)

# Statements of their own: the one that locks may have read the address of a person who was deleted
# before it came to the message. A later deletion waits for the lock and erases.
_READ_DUE = Statement(
    "read_due_messages",
    """
    SELECT message.id, message.person_id, message.kind, message.channel, message.recipient,
        message.contact_kind, message.created_time, message.expires_time, now() AS now,
        EXISTS (
            SELECT FROM message AS later
            WHERE later.person_id = message.person_id AND later.kind = message.kind
              AND later.contact_kind IS NOT DISTINCT FROM message.contact_kind
              AND later.number > message.number) AS outdated,
        (SELECT count(*) FROM message AS sent
            WHERE sent.person_id = message.person_id
              AND sent.sent_time > now() - interval '1 day') AS sent_today
    FROM message WHERE message.id = ANY(%(ids)s::uuid[])
    """,
)

_READ_PERSONS = Statement(
    "read_persons_of_messages", "SELECT * FROM person WHERE id = ANY(%(person_ids)s::bigint[])"
)

_END = Statement(
    "end_messages",
    """
    UPDATE message SET state = ended.state, reason_code = ended.reason, lease_token = NULL, recipient = NULL
    FROM unnest(%(ids)s::uuid[], %(states)s::text[], %(reasons)s::text[]) AS ended (id, state, reason)
    WHERE message.id = ended.id
    """,
)

_MOVE = Statement(
    "move_messages",
    """
    UPDATE message SET channel = moved.channel
    FROM unnest(%(ids)s::uuid[], %(channels)s::text[]) AS moved (id, channel) WHERE message.id = moved.id
    """,
)

_LEASE = Statement(
    "lease_messages",
    """
    WITH leased AS (
        UPDATE message
        SET leased_until_time = now() + %(duration)s::interval, lease_token = gen_random_uuid(),
            recipient = due.recipient
        FROM unnest(%(ids)s::uuid[], %(recipients)s::text[]) AS due (id, recipient)
        WHERE message.id = due.id
        RETURNING message.*
    )
    SELECT leased.id, leased.lease_token, leased.kind, leased.language,
        coalesce(leased.recipient, '') AS recipient,
        coalesce(mailbox_operator.name, '') AS operator_name, leased.contact_kind,
        leased.deadline_date AS deadline, coalesce(leased.case_count, 0) AS case_count, person.identifier,
        leased.synthetic, leased.receipt_token, leased.failed_attempts, leased.expires_time,
        leased.trace_parent
    FROM leased
    LEFT JOIN person ON person.id = leased.person_id
    LEFT JOIN mailbox_operator ON mailbox_operator.organisation_number = leased.operator
    ORDER BY leased.not_before_time
    """,
)

_LIST = text("""
    SELECT message.number, message.id, message.kind, message.channel, message.language,
        coalesce(mailbox_operator.name, ''), message.state, message.reason_code,
        coalesce(message.change_number, 0), message.failed_attempts, message.gateway,
        coalesce(message.parts, 0), message.cost_class, message.created_time, message.expires_time,
        message.sent_time, message.delivered_time, message.trace_parent
    FROM message LEFT JOIN mailbox_operator ON mailbox_operator.organisation_number = message.operator
    WHERE message.number < :before
      AND (:state = '' OR message.state = :state)
      AND (:change_number = 0 OR message.change_number = :change_number)
    ORDER BY message.number DESC LIMIT :limit
""")

_RETRY = text("""
    UPDATE message
    SET state = 'QUEUED', reason_code = NULL, not_before_time = now(), failed_attempts = 0,
        unsure_attempts = CASE state WHEN 'QUEUED' THEN unsure_attempts ELSE 0 END,
        expires_time = now() + (expires_time - created_time)
    WHERE id = ANY(:ids) AND state IN ('QUEUED', 'FAILED', 'SUPPRESSED') AND kind <> 'VERIFICATION_CODE'
      AND NOT (kind = 'CONTACT_CHANGED' AND recipient IS NULL)
""")


def lease_messages(
    transaction: Transaction,
    channel: str,
    *,
    limit: int,
    duration: timedelta,
    quiet: bool,
    most_in_a_day: int,
) -> list[LeasedMessage]:
    """Lease what is due on the channel, oldest first. What is not to be sent any more ends instead,
    and what can only go on the other channel moves there: see judge().

    quiet: lease only what comes at any hour.
    """
    run = transaction.run
    due = run(
        _LOCK_DUE,
        channel=channel,
        at_any_hour=[kind.value for kind in COMES_AT_ANY_HOUR] if quiet else None,
        limit=limit,
    )
    if not due:
        return []
    rows = run(_READ_DUE, ids=[row["id"] for row in due])
    found = run(_READ_PERSONS, person_ids=[row["person_id"] for row in rows if row["person_id"]])
    persons = {row["id"]: person_of(row, ()) for row in found}
    to_lease: list[tuple[uuid.UUID, str | None]] = []
    ended: list[tuple[uuid.UUID, str, str | None]] = []
    moved: list[tuple[uuid.UUID, str]] = []
    for row in rows:
        match judge(_due(row), persons.get(row["person_id"]), row["now"], most_in_a_day):
            case Send(recipient):
                to_lease.append((row["id"], recipient))
            case Move(other):
                moved.append((row["id"], other.value))
            case Suppress(reason):
                ended.append((row["id"], "SUPPRESSED", reason))
            case Supersede():
                ended.append((row["id"], "SUPERSEDED", None))
    run_for(run, _END, ("ids", "states", "reasons"), ended)
    run_for(run, _MOVE, ("ids", "channels"), moved)
    if not to_lease:
        return []
    ids, recipients = map(list, zip(*to_lease, strict=True))
    leased = run(_LEASE, ids=ids, recipients=recipients, duration=duration)
    return [_leased(row) for row in leased]


def list_messages(
    reader: Reader, *, state: str, change_number: int, before: int, limit: int
) -> list[MessageRow]:
    """Messages by falling number below `before`; empty state and 0 stand for all."""
    rows = reader.connection.execute(
        _LIST, {"state": state, "change_number": change_number, "before": before, "limit": limit}
    )
    return [MessageRow(*row) for row in rows]


def retry_messages(transaction: Transaction, ids: Sequence[uuid.UUID]) -> int:
    """Make queued, failed or suppressed messages due now, but no codes, and none to a former address that
    was forgotten. Returns how many."""
    return transaction.connection.execute(_RETRY, {"ids": list(ids)}).rowcount


def _due(row: dict[str, Any]) -> Due:
    return Due(
        kind=MessageKind(row["kind"]),
        channel=Channel(row["channel"]),
        recipient=row["recipient"],
        contact_kind=ContactKind(row["contact_kind"]) if row["contact_kind"] else None,
        created=row["created_time"],
        expires=row["expires_time"],
        outdated=row["outdated"],
        sent_today=row["sent_today"],
    )


def _leased(row: dict[str, Any]) -> LeasedMessage:
    identifier = row["identifier"]
    synthetic = is_synthetic(identifier) if identifier else row["synthetic"]
    return LeasedMessage(**{**row, "synthetic": synthetic})
