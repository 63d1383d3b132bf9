"""What became of messages: the adapter's word, and the gateway's receipt, whichever comes first."""

import uuid
from datetime import timedelta
from typing import Any

from sqlalchemy import text

from server.domain.errors import Reason, Refusal
from server.domain.outcome import Refused, Sent, TryLater, Unsure
from server.store.transaction import Transaction

# An early receipt whose message never came to be known was none of ours.
KEEP_EARLY_RECEIPTS = timedelta(days=3)

_LOCK_LEASED = text("""
    SELECT state, kind, unsure_attempts FROM message
    WHERE id = :id AND lease_token = :lease_token AND channel = :channel FOR UPDATE
""")

_RELEASE = "UPDATE message SET leased_until_time = NULL, lease_token = NULL"

# A former address is known no longer than it takes to tell it.
_FORGET_FORMER = "recipient = CASE kind WHEN 'CONTACT_CHANGED' THEN NULL ELSE recipient END"

_SENT = text(f"""
    {_RELEASE}, sent_time = now(), gateway = :gateway, gateway_message_id = :gateway_message_id,
        parts = :parts, cost_class = :cost_class,
        reason_code = CASE state WHEN 'QUEUED' THEN NULL ELSE reason_code END,
        state = CASE state WHEN 'QUEUED' THEN 'SENT' ELSE state END, {_FORGET_FORMER}
    WHERE id = :id
""")

_LOCK_BY_TOKEN = text("""
    SELECT id, state, unsure_attempts, trace_parent FROM message
    WHERE receipt_token = :receipt_token AND channel = :channel FOR UPDATE
""")

_LOCK_BY_GATEWAY = text("""
    SELECT id, state, unsure_attempts, trace_parent FROM message
    WHERE gateway = :gateway AND gateway_message_id = :gateway_message_id AND channel = :channel FOR UPDATE
""")

# Outcome and receipt of one message wait for each other: else each could miss the other.
_IN_TURN = text("SELECT pg_advisory_xact_lock(hashtextextended(:gateway || ' ' || :gateway_message_id, 0))")

_KEEP_EARLY = text("""
    INSERT INTO early_receipt (channel, gateway, gateway_message_id, failure)
    VALUES (:channel, :gateway, :gateway_message_id, :failure) ON CONFLICT DO NOTHING
""")

_TAKE_EARLY = text("""
    DELETE FROM early_receipt
    WHERE channel = :channel AND gateway = :gateway AND gateway_message_id = :gateway_message_id
    RETURNING failure
""")

_FORGET_EARLY = text("""
    DELETE FROM early_receipt WHERE (channel, gateway, gateway_message_id) IN (
        SELECT channel, gateway, gateway_message_id FROM early_receipt
        WHERE received_time < now() - :age LIMIT 10000)
""")


def finish_message(
    transaction: Transaction,
    channel: str,
    message_id: uuid.UUID,
    lease_token: uuid.UUID,
    outcome: Sent | TryLater | Unsure | Refused,
) -> None:
    """Record the outcome and end the lease. A receipt that came first keeps its say.

    Raises Refusal: LEASE_LOST.
    """
    execute = transaction.connection.execute
    named = {"channel": channel, "id": message_id}
    if isinstance(outcome, Sent):
        execute(_IN_TURN, _of_gateway(outcome.gateway, outcome.gateway_message_id))
    leased = execute(_LOCK_LEASED, {**named, "lease_token": lease_token}).one_or_none()
    if leased is None:
        raise Refusal(Reason.LEASE_LOST)
    still_queued = leased.state == "QUEUED"
    match outcome:
        case Sent(gateway, gateway_message_id):
            of_gateway = _of_gateway(gateway, gateway_message_id)
            execute(_SENT, {**named, **of_gateway, "parts": outcome.parts, "cost_class": outcome.cost_class})
            early = execute(_TAKE_EARLY, {"channel": channel, **of_gateway}).one_or_none()
            if early and still_queued:
                _conclude(transaction, message_id, early.failure)
        case Unsure(delay, error_code) if still_queued and not leased.unsure_attempts:
            execute(
                text(
                    f"{_RELEASE}, failed_attempts = failed_attempts + 1, unsure_attempts = 1, "
                    "reason_code = :error_code, not_before_time = now() + :delay WHERE id = :id"
                ),
                {**named, "error_code": error_code, "delay": delay},
            )
        case TryLater(delay, error_code) if still_queued:
            execute(
                text(
                    f"{_RELEASE}, failed_attempts = failed_attempts + 1, reason_code = :error_code, "
                    "not_before_time = now() + :delay WHERE id = :id"
                ),
                {**named, "error_code": error_code, "delay": delay},
            )
        case Refused(error_code=error_code) | Unsure(error_code=error_code) if still_queued:
            execute(
                text(
                    f"{_RELEASE}, state = 'FAILED', reason_code = :error_code, {_FORGET_FORMER} "
                    "WHERE id = :id"
                ),
                {**named, "error_code": error_code},
            )
        case _:
            execute(text(f"{_RELEASE} WHERE id = :id"), named)


def record_receipt(
    transaction: Transaction, channel: str, receipt_token: uuid.UUID, failure: str | None
) -> str | None:
    """Record what the gateway says became of the message; the first final word counts. Returns
    the traceparent of the call that caused the message, None where it had none.

    failure: the error code; None for a message that arrived.

    Raises Refusal: UNKNOWN_RECEIPT.
    """
    found = transaction.connection.execute(
        _LOCK_BY_TOKEN, {"receipt_token": receipt_token, "channel": channel}
    ).one_or_none()
    if found is None:
        raise Refusal(Reason.UNKNOWN_RECEIPT)
    return _receive(transaction, found, failure)


def record_receipt_by_gateway(
    transaction: Transaction, channel: str, gateway: str, gateway_message_id: str, failure: str | None
) -> str | None:
    """As record_receipt(), of the message that the gateway calls by this id. Where none is known by it
    yet, the receipt is kept for the outcome to come."""
    execute = transaction.connection.execute
    of_gateway = {"channel": channel, **_of_gateway(gateway, gateway_message_id)}
    execute(_IN_TURN, of_gateway)
    found = execute(_LOCK_BY_GATEWAY, of_gateway).one_or_none()
    if found is None:
        execute(_KEEP_EARLY, {**of_gateway, "failure": failure})
        return None
    return _receive(transaction, found, failure)


def forget_early_receipts(transaction: Transaction) -> int:
    """Delete up to 10,000 receipts that have waited for three days; how many."""
    return transaction.connection.execute(_FORGET_EARLY, {"age": KEEP_EARLY_RECEIPTS}).rowcount


def _of_gateway(gateway: str, gateway_message_id: str) -> dict[str, str]:
    return {"gateway": gateway, "gateway_message_id": gateway_message_id}


def _receive(transaction: Transaction, found: Any, failure: str | None) -> str | None:
    # One that was given up because nobody knew whether it had been taken is still to be told of.
    given_up = found.state == "FAILED" and found.unsure_attempts
    if found.state in ("QUEUED", "SENT") or (given_up and failure is None):
        _conclude(transaction, found.id, failure)
    trace_parent: str | None = found.trace_parent
    return trace_parent


def _conclude(transaction: Transaction, message_id: uuid.UUID, failure: str | None) -> None:
    """Enter the last word on a message."""
    if failure is None:
        statement = text(
            "UPDATE message SET state = 'DELIVERED', delivered_time = now(), reason_code = NULL "
            "WHERE id = :id"
        )
    else:
        statement = text("UPDATE message SET state = 'FAILED', reason_code = :failure WHERE id = :id")
    transaction.connection.execute(statement, {"id": message_id, "failure": failure})
