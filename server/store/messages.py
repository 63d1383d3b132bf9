"""Messages to people: leased to the adapter of their channel, kept as the record."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text

from server.domain.errors import Reason, Refusal
from server.domain.identifiers import PersonIdentifier
from server.domain.outcome import Refused, Sent, TryLater
from server.store.mailbox_writes import NO_MOBILE
from server.store.transaction import Reader, Transaction


@dataclass(frozen=True)
class LeasedMessage:
    """A leased message with the recipient as of the lease."""

    id: uuid.UUID
    lease_token: uuid.UUID
    kind: str
    language: str
    recipient: str
    operator_name: str
    identifier: PersonIdentifier
    receipt_token: uuid.UUID
    failed_attempts: int
    trace_parent: str | None


@dataclass(frozen=True)
class MessageRow:
    """Where a message stands, without the person."""

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
    created_time: datetime
    sent_time: datetime | None
    delivered_time: datetime | None
    trace_parent: str | None


_LOCK_DUE = text("""
    SELECT id FROM message
    WHERE state = 'QUEUED' AND channel = :channel
      AND not_before_time <= now()
      AND coalesce(leased_until_time < now(), true)
    ORDER BY not_before_time
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
""")

# A statement of its own: the one that locks may have read the mobile of a person who was
# deleted before it came to the message. A later deletion waits for the lock and erases.
_LEASE = text("""
    WITH due AS (
        SELECT message.id, person.mobile, EXISTS (
            SELECT FROM message AS later
            WHERE later.person_id = message.person_id AND later.kind = message.kind
              AND later.change_number > message.change_number) AS is_outdated
        FROM message JOIN person ON person.id = message.person_id
        WHERE message.id = ANY(:ids)
    ), unsent AS (
        UPDATE message
        SET state = CASE WHEN is_outdated THEN 'SUPERSEDED' ELSE 'SUPPRESSED' END,
            reason_code = CASE WHEN is_outdated THEN NULL ELSE :no_mobile END, lease_token = NULL
        FROM due WHERE message.id = due.id AND (is_outdated OR due.mobile IS NULL)
    ), leased AS (
        UPDATE message
        SET leased_until_time = now() + :duration, lease_token = gen_random_uuid(), recipient = due.mobile
        FROM due WHERE message.id = due.id AND NOT is_outdated AND due.mobile IS NOT NULL
        RETURNING message.*
    )
    SELECT leased.id, leased.lease_token, leased.kind, leased.language, leased.recipient,
        mailbox_operator.name, person.identifier, leased.receipt_token, leased.failed_attempts,
        leased.trace_parent
    FROM leased
    JOIN person ON person.id = leased.person_id
    JOIN mailbox_operator ON mailbox_operator.organisation_number = leased.operator
    ORDER BY leased.not_before_time
""")

_LOCK_LEASED = text("""
    SELECT state FROM message
    WHERE id = :id AND lease_token = :lease_token AND channel = :channel FOR UPDATE
""")

_RELEASE = "UPDATE message SET leased_until_time = NULL, lease_token = NULL"

_LOCK_BY_RECEIPT = text("""
    SELECT id, state, trace_parent FROM message
    WHERE receipt_token = :receipt_token AND channel = :channel FOR UPDATE
""")

_LIST = text("""
    SELECT message.id, message.kind, message.channel, message.language,
        mailbox_operator.name, message.state, message.reason_code, message.change_number,
        message.failed_attempts, message.gateway, message.created_time, message.sent_time,
        message.delivered_time, message.trace_parent
    FROM message JOIN mailbox_operator ON mailbox_operator.organisation_number = message.operator
    WHERE message.change_number < :before
      AND (:state = '' OR message.state = :state)
      AND (:change_number = 0 OR message.change_number = :change_number)
    ORDER BY message.change_number DESC LIMIT :limit
""")

_RETRY = text("""
    UPDATE message
    SET state = 'QUEUED', reason_code = NULL, not_before_time = now(), failed_attempts = 0
    WHERE id = ANY(:ids) AND state IN ('QUEUED', 'FAILED', 'SUPPRESSED')
""")


def lease_messages(
    transaction: Transaction, channel: str, *, limit: int, duration: timedelta
) -> list[LeasedMessage]:
    """Lease what is due on the channel, oldest first. What has no recipient any more is
    suppressed instead, and what a later message of its kind has outdated is superseded."""
    execute = transaction.connection.execute
    ids = execute(_LOCK_DUE, {"channel": channel, "limit": limit}).scalars().all()
    rows = execute(_LEASE, {"ids": ids, "duration": duration, "no_mobile": NO_MOBILE})
    return [LeasedMessage(*row) for row in rows]


def finish_message(
    transaction: Transaction,
    channel: str,
    message_id: uuid.UUID,
    lease_token: uuid.UUID,
    outcome: Sent | TryLater | Refused,
) -> None:
    """Record the outcome and end the lease. A receipt that came first keeps its say.

    Raises Refusal: LEASE_LOST.
    """
    execute = transaction.connection.execute
    leased = execute(
        _LOCK_LEASED, {"id": message_id, "lease_token": lease_token, "channel": channel}
    ).one_or_none()
    if leased is None:
        raise Refusal(Reason.LEASE_LOST)
    still_queued = leased.state == "QUEUED"
    match outcome:
        case Sent(gateway, gateway_message_id):
            execute(
                text(
                    f"{_RELEASE}, sent_time = now(), gateway = :gateway, "
                    "gateway_message_id = :gateway_message_id, "
                    "reason_code = CASE state WHEN 'QUEUED' THEN NULL ELSE reason_code END, "
                    "state = CASE state WHEN 'QUEUED' THEN 'SENT' ELSE state END WHERE id = :id"
                ),
                {"id": message_id, "gateway": gateway, "gateway_message_id": gateway_message_id},
            )
        case TryLater(delay, error_code) if still_queued:
            execute(
                text(
                    f"{_RELEASE}, failed_attempts = failed_attempts + 1, reason_code = :error_code, "
                    "not_before_time = now() + :delay WHERE id = :id"
                ),
                {"id": message_id, "error_code": error_code, "delay": delay},
            )
        case Refused(error_code) if still_queued:
            execute(
                text(f"{_RELEASE}, state = 'FAILED', reason_code = :error_code WHERE id = :id"),
                {"id": message_id, "error_code": error_code},
            )
        case _:
            execute(text(f"{_RELEASE} WHERE id = :id"), {"id": message_id})


def record_receipt(
    transaction: Transaction, channel: str, receipt_token: uuid.UUID, failure: str | None
) -> str | None:
    """Record what the gateway says became of the message; the first final word counts. Returns
    the traceparent of the call that caused the message, None where it had none.

    failure: the error code; None for a message that arrived.

    Raises Refusal: UNKNOWN_RECEIPT.
    """
    execute = transaction.connection.execute
    found = execute(_LOCK_BY_RECEIPT, {"receipt_token": receipt_token, "channel": channel}).one_or_none()
    if found is None:
        raise Refusal(Reason.UNKNOWN_RECEIPT)
    trace_parent: str | None = found.trace_parent
    if found.state not in ("QUEUED", "SENT"):
        return trace_parent
    if failure is None:
        execute(
            text("UPDATE message SET state = 'DELIVERED', delivered_time = now() WHERE id = :id"),
            {"id": found.id},
        )
    else:
        execute(
            text("UPDATE message SET state = 'FAILED', reason_code = :failure WHERE id = :id"),
            {"id": found.id, "failure": failure},
        )
    return trace_parent


def list_messages(
    reader: Reader, *, state: str, change_number: int, before: int, limit: int
) -> list[MessageRow]:
    """Messages by falling change number below `before`; empty state and 0 stand for all."""
    rows = reader.connection.execute(
        _LIST, {"state": state, "change_number": change_number, "before": before, "limit": limit}
    )
    return [MessageRow(*row) for row in rows]


def retry_messages(transaction: Transaction, ids: Sequence[uuid.UUID]) -> int:
    """Make queued, failed or suppressed messages due now. Returns how many."""
    return transaction.connection.execute(_RETRY, {"ids": list(ids)}).rowcount
