"""Deliveries: what mailbox operators must be told, leased to adapters."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text

from server.domain.caller import CallerKind
from server.domain.change import Change
from server.domain.errors import InvalidValue, Reason, Refusal
from server.domain.identifiers import MailboxAddress, OrganisationNumber, PersonIdentifier
from server.domain.outcome import Done, Refused, TryLater
from server.domain.person import OperatorState, Person
from server.store.transaction import Reader, Transaction


@dataclass(frozen=True)
class LeasedDelivery:
    """A leased delivery and what the operator's side should be, read with the lease."""

    id: int
    lease_token: uuid.UUID
    identifier: PersonIdentifier
    receives_public_mail: bool
    address: str | None
    change_number: int
    failed_attempts: int
    trace_parent: str | None
    earlier_lease_ran_out: bool
    # Only where an account shall be opened.
    email: str | None
    mobile: str | None


@dataclass(frozen=True)
class DeliveryRow:
    """Where a delivery stands, without the person."""

    id: int
    adapter: str
    change_number: int
    created_time: datetime
    not_before_time: datetime
    failed_attempts: int
    last_error_code: str | None
    refused: bool
    trace_parent: str | None


# A withdrawal takes the mark away; but a server of an earlier version does not.
_OPENS_ACCOUNT = """(delivery.open_account AND person.status = 'ACTIVE' AND NOT person.reserved
        AND person.email IS NOT NULL AND person.mobile IS NOT NULL)"""

# The desired state is read in the statement that leases, from one snapshot. Should the
# person change just then, the snapshot's change number is below the delivery's, so the
# outcome will not count and the delivery is leased again.
#
# On a switch, the old operator's off waits for the new one's on.
_LEASE = text(f"""
    WITH due AS (
        SELECT delivery.id, delivery.lease_token IS NOT NULL AS earlier_lease_ran_out
        FROM delivery JOIN mailbox_operator ON mailbox_operator.organisation_number = delivery.operator
        WHERE mailbox_operator.adapter = :adapter
          AND NOT delivery.refused
          AND delivery.not_before_time <= now()
          AND coalesce(delivery.leased_until_time < now(), true)
          AND NOT (NOT delivery.open_account
            AND delivery.created_time > now() - :wait_for_new_operator AND EXISTS (
              SELECT FROM delivery AS other
              JOIN mailbox ON mailbox.person_id = other.person_id
                AND mailbox.operator = other.operator AND mailbox.chosen
              JOIN person ON person.id = other.person_id AND NOT person.reserved
              WHERE other.person_id = delivery.person_id AND other.operator <> delivery.operator))
        ORDER BY delivery.not_before_time
        LIMIT :limit
        FOR UPDATE OF delivery SKIP LOCKED
    ), leased AS (
        UPDATE delivery
        SET leased_until_time = now() + :duration, lease_token = gen_random_uuid(),
            leased_change_number = person.change_number
        FROM due, person
        WHERE delivery.id = due.id AND person.id = delivery.person_id
        RETURNING delivery.id, delivery.lease_token, delivery.operator, delivery.person_id,
            delivery.failed_attempts, delivery.not_before_time, delivery.trace_parent,
            due.earlier_lease_ran_out, {_OPENS_ACCOUNT} AS opens_account
    )
    SELECT leased.id, leased.lease_token, person.identifier,
        person.status = 'ACTIVE' AND NOT person.reserved AND coalesce(mailbox.chosen, false)
            AS receives_public_mail,
        mailbox.address, person.change_number, leased.failed_attempts, leased.trace_parent,
        leased.earlier_lease_ran_out,
        CASE WHEN leased.opens_account THEN person.email END AS email,
        CASE WHEN leased.opens_account THEN person.mobile END AS mobile
    FROM leased
    JOIN person ON person.id = leased.person_id
    LEFT JOIN mailbox ON mailbox.person_id = leased.person_id AND mailbox.operator = leased.operator
    ORDER BY leased.not_before_time
""")  # noqa: S608 (a condition from above)

_FIND_LEASED = text("""
    SELECT delivery.person_id, delivery.operator, person.identifier
    FROM delivery JOIN mailbox_operator ON mailbox_operator.organisation_number = delivery.operator
    JOIN person ON person.id = delivery.person_id
    WHERE delivery.id = :id AND delivery.lease_token = :lease_token AND mailbox_operator.adapter = :adapter
""")

_LOCK_LEASED = text(f"""
    SELECT coalesce(delivery.change_number <= delivery.leased_change_number, false) AS is_current,
        {_OPENS_ACCOUNT} AS opens_account
    FROM delivery JOIN person ON person.id = delivery.person_id
    WHERE delivery.id = :id AND delivery.lease_token = :lease_token FOR UPDATE OF delivery
""")  # noqa: S608 (a condition from above)

_RELEASE = "UPDATE delivery SET leased_until_time = NULL, lease_token = NULL"

_SET_OPERATOR_STATE = text("""
    UPDATE mailbox SET operator_state = :state WHERE person_id = :person_id AND operator = :operator
""")

_LIST = text("""
    SELECT delivery.id, mailbox_operator.adapter, delivery.change_number, delivery.created_time,
        delivery.not_before_time, delivery.failed_attempts, delivery.last_error_code, delivery.refused,
        delivery.trace_parent
    FROM delivery JOIN mailbox_operator ON mailbox_operator.organisation_number = delivery.operator
    WHERE delivery.id > :after
      AND (:adapter = '' OR mailbox_operator.adapter = :adapter)
      AND (CAST(:refused AS boolean) IS NULL OR delivery.refused = :refused)
      AND delivery.failed_attempts >= :min_failed_attempts
    ORDER BY delivery.id LIMIT :limit
""")

_RETRY = text("""
    UPDATE delivery
    SET not_before_time = now(), failed_attempts = 0, refused = false
    FROM mailbox_operator
    WHERE mailbox_operator.organisation_number = delivery.operator
      AND (delivery.id = ANY(:ids)
        OR (cardinality(CAST(:ids AS bigint[])) = 0
            AND mailbox_operator.adapter = :adapter AND delivery.refused))
""")


def lease_deliveries(
    transaction: Transaction,
    adapter: str,
    *,
    limit: int,
    duration: timedelta,
    wait_for_new_operator: timedelta,
) -> list[LeasedDelivery]:
    """Lease what is due for the adapter, oldest first.

    wait_for_new_operator: how long an old operator's off waits for the new one's on.
    """
    rows = transaction.connection.execute(
        _LEASE,
        {
            "adapter": adapter,
            "limit": limit,
            "duration": duration,
            "wait_for_new_operator": wait_for_new_operator,
        },
    )
    return [LeasedDelivery(*row) for row in rows]


def finish_delivery(
    transaction: Transaction,
    adapter: str,
    delivery_id: int,
    lease_token: uuid.UUID,
    outcome: Done | TryLater | Refused,
    now: datetime,
) -> None:
    """Record the outcome and end the lease. Where the person changed after the lease, the
    outcome does not count and the delivery stays due; but an account that was opened is entered.

    Raises Refusal: LEASE_LOST. Raises InvalidValue: INVALID_FIELD where the address of an account is
    missing, or was not asked for.
    """
    execute = transaction.connection.execute
    lease = {"id": delivery_id, "lease_token": lease_token}
    found = execute(_FIND_LEASED, {**lease, "adapter": adapter}).one_or_none()
    if found is None:
        raise Refusal(Reason.LEASE_LOST)
    person = transaction.person(found.identifier)
    leased = execute(_LOCK_LEASED, lease).one_or_none()
    if leased is None:
        raise Refusal(Reason.LEASE_LOST)
    address = outcome.mailbox_address if isinstance(outcome, Done) else None
    if leased.is_current and isinstance(outcome, Done) and (address is not None) != leased.opens_account:
        raise InvalidValue(
            Reason.INVALID_FIELD,
            "done.mailbox_address",
            "given where an account was to be opened, only there",
        )
    if address is not None:
        execute(text(f"{_RELEASE} WHERE id = :id"), {"id": delivery_id})
        _enter_account(transaction, person, found.operator, address, now, choose=leased.opens_account)
        return
    if not leased.is_current:
        execute(text(f"{_RELEASE} WHERE id = :id"), {"id": delivery_id})
        return
    match outcome:
        case Done():
            execute(text("DELETE FROM delivery WHERE id = :id"), {"id": delivery_id})
            state = OperatorState.IN_STEP
        case TryLater(delay, error_code):
            execute(
                text(
                    f"{_RELEASE}, failed_attempts = failed_attempts + 1, last_error_code = :error_code, "
                    "not_before_time = now() + :delay WHERE id = :id"
                ),
                {"id": delivery_id, "error_code": error_code, "delay": delay},
            )
            return
        case Refused(error_code):
            execute(
                text(f"{_RELEASE}, refused = true, last_error_code = :error_code WHERE id = :id"),
                {"id": delivery_id, "error_code": error_code},
            )
            no_account = error_code == OperatorState.NO_ACCOUNT
            state = OperatorState.NO_ACCOUNT if no_account else OperatorState.REFUSED
    execute(
        _SET_OPERATOR_STATE,
        {"state": state.value, "person_id": found.person_id, "operator": found.operator},
    )


def _enter_account(
    transaction: Transaction,
    person: Person,
    operator: OrganisationNumber,
    address: MailboxAddress,
    now: datetime,
    *,
    choose: bool,
) -> None:
    """Enter an account as a mailbox; choose it unless the citizen withdrew the request.

    The choice makes the delivery due again, to switch public mail on. A withdrawal did so before.
    """
    after = person.enter_opened_account(operator, address)
    if choose:
        after = after.choose_mailbox(operator)
    # The adapter only brings what the citizen asked for, or what the operator has all the same.
    transaction.act_for(CallerKind.CITIZEN if choose else CallerKind.OPERATOR)
    transaction.record([Change(person, after)], now)


def list_deliveries(
    reader: Reader, *, adapter: str, refused: bool | None, min_failed_attempts: int, after: int, limit: int
) -> list[DeliveryRow]:
    """Deliveries by rising id after `after`; empty adapter and None stand for all."""
    rows = reader.connection.execute(
        _LIST,
        {
            "after": after,
            "adapter": adapter,
            "refused": refused,
            "min_failed_attempts": min_failed_attempts,
            "limit": limit,
        },
    )
    return [DeliveryRow(*row) for row in rows]


def retry_deliveries(transaction: Transaction, ids: Sequence[int], adapter: str) -> int:
    """Make the deliveries due now; without ids, all refused ones of the adapter. Returns how many."""
    return transaction.connection.execute(_RETRY, {"ids": list(ids), "adapter": adapter}).rowcount
