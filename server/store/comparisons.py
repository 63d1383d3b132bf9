"""Comparisons of a sweep, leased to adapters, and what is made of what they read.

Locks are taken in this order: the person, the comparison, the sweep, then as in Transaction. Who
leases has the sweep locked and waits for nothing else.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, text, update

from server.domain.change import Change
from server.domain.comparison import (
    Account,
    DifferenceKind,
    NotRepairedReason,
    as_operator_says,
    differences,
)
from server.domain.errors import InvalidValue, Reason, Refusal
from server.domain.identifiers import OrganisationNumber, PersonIdentifier
from server.domain.outcome import TryLater
from server.domain.person import Person
from server.store import sweeps
from server.store.account_lists import AccountsRead, compare_part
from server.store.sweep_tables import comparison, sweep, sweep_difference
from server.store.sweeps import Sweep, SweepState
from server.store.tables import delivery
from server.store.transaction import Transaction

# A person who could not be read so often is left to the next sweep.
_MOST_ATTEMPTS = 5


@dataclass(frozen=True)
class LeasedComparison:
    """What to read: a person's account, or the part of the operator's list after an identifier."""

    id: int
    lease_token: uuid.UUID
    failed_attempts: int
    identifier: PersonIdentifier | None
    after_identifier: str | None


@dataclass(frozen=True)
class Found:
    """What a comparison came to. sweep: where the sweep stood before."""

    sweep: Sweep
    kinds: Sequence[DifferenceKind] = ()
    stopped: bool = False


_GIVE_UP = text("""
    DELETE FROM comparison WHERE id IN (
        SELECT id FROM comparison
        WHERE sweep_id = :sweep_id AND person_id IS NOT NULL AND failed_attempts >= :most
          AND coalesce(leased_until_time < now(), true)
        FOR UPDATE SKIP LOCKED)
""")

_FORGET = text("""
    DELETE FROM comparison WHERE id IN (
        SELECT comparison.id FROM comparison JOIN sweep ON sweep.id = comparison.sweep_id
        JOIN mailbox_operator ON mailbox_operator.organisation_number = sweep.operator
        WHERE mailbox_operator.adapter = :adapter AND sweep.state <> 'RUNNING'
        LIMIT 1000 FOR UPDATE OF comparison SKIP LOCKED)
""")

# With 0, which no person has, where a delivery is under way: once that is done, what was read may be
# from before it.
_NUMBER_AT_LEASE = """
    CASE WHEN EXISTS (SELECT FROM delivery WHERE delivery.person_id = person.id
        AND delivery.operator = :operator AND NOT delivery.refused) THEN 0 ELSE person.change_number END
"""

# A lease that ran out is an attempt that failed.
_LEASE_AGAIN = text(f"""
    WITH due AS (
        SELECT id FROM comparison
        WHERE sweep_id = :sweep_id AND not_before_time <= now()
          AND coalesce(leased_until_time < now(), true)
          AND (person_id IS NULL OR failed_attempts < :most)
          AND (person_id IS NOT NULL OR :lists_accounts)
        ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    UPDATE comparison
    SET failed_attempts = failed_attempts + (lease_token IS NOT NULL)::int,
        leased_until_time = now() + :duration, lease_token = gen_random_uuid(),
        change_number = coalesce((SELECT {_NUMBER_AT_LEASE} FROM person WHERE person.id = person_id), 0)
    FROM due WHERE comparison.id = due.id
    RETURNING comparison.id, lease_token, failed_attempts,
        (SELECT identifier FROM person WHERE person.id = person_id), after_identifier
""")  # noqa: S608 (a condition from above)

_WALK = text(f"""
    WITH next AS (
        SELECT id, identifier, change_number, {_NUMBER_AT_LEASE} AS number_at_lease FROM person
        WHERE change_number > :above AND change_number < :below
        ORDER BY change_number DESC LIMIT :limit
    ), leased AS (
        INSERT INTO comparison (sweep_id, person_id, change_number, not_before_time, leased_until_time,
            lease_token, failed_attempts)
        SELECT :sweep_id, id, number_at_lease, now(), now() + :duration, gen_random_uuid(), 0 FROM next
        ON CONFLICT (sweep_id, person_id) DO NOTHING
        RETURNING id, person_id, lease_token
    )
    SELECT leased.id, leased.lease_token, 0, next.identifier, NULL, next.change_number
    FROM next LEFT JOIN leased ON leased.person_id = next.id ORDER BY next.change_number DESC
""")  # noqa: S608 (a condition from above)

_LEAVE_LIST = text("""
    DELETE FROM comparison WHERE id IN (
        SELECT id FROM comparison
        WHERE sweep_id = :sweep_id AND person_id IS NULL AND coalesce(leased_until_time < now(), true)
        FOR UPDATE SKIP LOCKED)
""")

_OUT = text("SELECT count(*) FROM comparison WHERE sweep_id = :sweep_id")

_FIND = text("""
    SELECT comparison.sweep_id, comparison.person_id, person.identifier
    FROM comparison JOIN sweep ON sweep.id = comparison.sweep_id
    JOIN mailbox_operator ON mailbox_operator.organisation_number = sweep.operator
    LEFT JOIN person ON person.id = comparison.person_id
    WHERE comparison.id = :id AND comparison.lease_token = :lease_token
      AND mailbox_operator.adapter = :adapter
""")


def lease_comparisons(
    transaction: Transaction,
    adapter: str,
    now: datetime,
    *,
    limit: int,
    duration: timedelta,
    lists_accounts: bool,
    rolling: timedelta,
) -> list[LeasedComparison]:
    """Lease what the adapter's running sweep has to read, recently changed persons first.

    rolling: how long a sweep takes that the register begins by itself; zero where it begins none.
    """
    execute = transaction.connection.execute
    running = sweeps.running_sweep(transaction, adapter)
    if running is None:
        execute(_FORGET, {"adapter": adapter})
        if rolling:
            sweeps.begin_rolling(transaction, adapter, now, rolling)
            running = sweeps.running_sweep(transaction, adapter)
        if running is None:
            return []
    # Who was given out once is not held back again: a difference must not wait for the pace.
    new = min(limit, _paced(transaction, running, now, rolling)) if running.rolling else limit
    running = _by_list_or_singly(transaction, running, now, lists_accounts=lists_accounts)
    lease = {"sweep_id": running.id, "operator": running.operator, "duration": duration}
    again = execute(
        _LEASE_AGAIN,
        {**lease, "limit": limit, "lists_accounts": lists_accounts and new > 0, "most": _MOST_ATTEMPTS},
    )
    leased = [LeasedComparison(*row) for row in again]
    new = min(new, limit - len(leased))
    if running.next_change_number and new:
        leased += _walk_on(transaction, running, lease, new)
    if not leased:
        given_up = execute(_GIVE_UP, {"sweep_id": running.id, "most": _MOST_ATTEMPTS}).rowcount
        if given_up:
            sweeps.count(transaction, running.id, unread_count=given_up)
        sweeps.finish_if_through(transaction, running.id, now)
    return leased


def _walk_on(
    transaction: Transaction, running: Sweep, lease: Mapping[str, Any], wanted: int
) -> list[LeasedComparison]:
    """Lease persons whom the sweep has not come to yet."""
    execute = transaction.connection.execute
    bounds = {"above": running.above_change_number, "below": running.next_change_number}
    rows = execute(_WALK, {**lease, **bounds, "limit": wanted}).all()
    position = {"next_change_number": rows[-1].change_number if len(rows) == wanted else 0}
    if len(rows) < wanted and running.above_change_number < running.began_change_number:
        # Who changed while the sweep was on the way was passed over.
        last = transaction.last_change_number()
        if last > running.began_change_number:
            position["next_change_number"] = last + 1
        position["above_change_number"] = running.began_change_number
    execute(update(sweep).where(sweep.c.id == running.id).values(position))
    # Those that the sweep has out already are left out.
    return [LeasedComparison(*row[:5]) for row in rows if row.id is not None]


def finish_comparison(
    transaction: Transaction,
    adapter: str,
    comparison_id: int,
    lease_token: uuid.UUID,
    outcome: Account | AccountsRead | TryLater,
    now: datetime,
) -> Found:
    """Compare what was read with the register as it is now, repair what differs, end the lease.

    Raises Refusal: LEASE_LOST; InvalidValue: INVALID_FIELD where the outcome does not fit the lease.
    """
    execute = transaction.connection.execute
    lease = {"id": comparison_id, "lease_token": lease_token}
    found = execute(_FIND, {**lease, "adapter": adapter}).one_or_none()
    if found is None:
        raise Refusal(Reason.LEASE_LOST)
    person = transaction.person(found.identifier) if found.person_id else None
    row = execute(
        select(comparison)
        .where(comparison.c.id == comparison_id, comparison.c.lease_token == lease_token)
        .with_for_update()
    ).one_or_none()
    if row is None:
        raise Refusal(Reason.LEASE_LOST)
    running = sweeps.lock_sweep(transaction, row.sweep_id)
    if running.state is not SweepState.RUNNING:
        _done(transaction, comparison_id)
        return Found(running)
    match outcome, person:
        case TryLater(delay), _:
            _read_later(transaction, running, row, delay)
            result = Found(running)
        case Account(), Person():
            result = _compare(transaction, running, row, person, outcome, now)
        case AccountsRead(), None:
            after = compare_part(transaction, running, row.after_identifier, outcome)
            if after is None:
                _done(transaction, row.id)
            else:
                _release(transaction, row.id, after_identifier=after, failed_attempts=0)
            result = Found(running)
        case _:
            raise InvalidValue(Reason.INVALID_FIELD, "outcome", "account of a person, accounts of a list")
    if not (result.stopped or running.next_change_number):
        sweeps.finish_if_through(transaction, running.id, now)
    return result


def _paced(transaction: Transaction, running: Sweep, now: datetime, rolling: timedelta) -> int:
    """How many more the sweep may give out by now, so that it takes its time."""
    if not rolling:
        return 0
    out: int = transaction.connection.execute(_OUT, {"sweep_id": running.id}).scalar_one()
    due = int(running.person_count * ((now - running.started_time) / rolling)) + 1
    return max(0, due - running.compared_count - running.unread_count - out)


def _by_list_or_singly(
    transaction: Transaction, running: Sweep, now: datetime, *, lists_accounts: bool
) -> Sweep:
    """Begin with the operator's list where the adapter can list, or go over to single persons where it
    no longer can. A sweep that has begun singly stays so."""
    execute = transaction.connection.execute
    if lists_accounts and running.next_change_number == running.began_change_number + 1:
        execute(
            insert(comparison).values(
                sweep_id=running.id,
                after_identifier="",
                change_number=0,
                not_before_time=now,
                failed_attempts=0,
            )
        )
        position = 0
    elif not lists_accounts and execute(_LEAVE_LIST, {"sweep_id": running.id}).rowcount:
        # One more than needed: it tells from a sweep that has not begun, which would list again.
        position = transaction.last_change_number() + 2
    else:
        return running
    execute(update(sweep).where(sweep.c.id == running.id).values(next_change_number=position))
    return replace(running, next_change_number=position)


def _done(transaction: Transaction, comparison_id: int) -> None:
    transaction.connection.execute(delete(comparison).where(comparison.c.id == comparison_id))


def _release(transaction: Transaction, comparison_id: int, **values: Any) -> None:
    transaction.connection.execute(
        update(comparison)
        .where(comparison.c.id == comparison_id)
        .values(leased_until_time=None, lease_token=None, **values)
    )


def _read_later(transaction: Transaction, running: Sweep, row: Row[Any], delay: timedelta) -> None:
    if row.person_id is not None and row.failed_attempts + 1 >= _MOST_ATTEMPTS:
        _done(transaction, row.id)
        sweeps.count(transaction, running.id, unread_count=1)
    else:
        _release(
            transaction, row.id, failed_attempts=row.failed_attempts + 1, not_before_time=func.now() + delay
        )


def _compare(
    transaction: Transaction, running: Sweep, row: Row[Any], person: Person, account: Account, now: datetime
) -> Found:
    refused = transaction.connection.scalar(
        select(delivery.c.refused).where(
            delivery.c.person_id == row.person_id, delivery.c.operator == running.operator
        )
    )
    is_under_way = refused is False
    if person.change_number != row.change_number and not is_under_way:
        # What was read may be from before the change.
        _release(transaction, row.id)
        return Found(running)
    _done(transaction, row.id)
    kinds = () if is_under_way else differences(person, running.operator, account)
    reasons: dict[DifferenceKind, NotRepairedReason | None] = {}
    for kind in kinds:
        left = NotRepairedReason.DELIVERY_REFUSED if refused and kind.is_of_choice else None
        reasons[kind] = NotRepairedReason.DRY_RUN if running.dry_run else left
    repairs = sum(reason is None for reason in reasons.values())
    stopped = running.repaired_count + repairs > running.max_repairs
    if stopped:
        reasons = {kind: reason or NotRepairedReason.CAP for kind, reason in reasons.items()}
        sweeps.set_state(transaction, running.id, SweepState.STOPPED_AT_CAP, now)
    number = _repair(transaction, running.operator, person, account, reasons, now)
    sweeps.count(
        transaction,
        running.id,
        compared_count=1,
        difference_count=len(kinds),
        repaired_count=sum(reason is None for reason in reasons.values()),
    )
    _note(transaction, running, row.person_id, number, reasons, now)
    return Found(running, kinds, stopped)


def _repair(
    transaction: Transaction,
    operator: OrganisationNumber,
    person: Person,
    account: Account,
    reasons: dict[DifferenceKind, NotRepairedReason | None],
    now: datetime,
) -> int:
    """Repair what no reason speaks against, and note where the rules do; the person's change number."""
    repaired = [kind for kind, reason in reasons.items() if reason is None]
    after, of_choice = person, [kind for kind in repaired if kind.is_of_choice]
    if len(of_choice) < len(repaired):
        try:
            after = as_operator_says(person, operator, account)
        except Refusal:
            reasons |= {kind: NotRepairedReason.NOT_ALLOWED for kind in repaired if not kind.is_of_choice}
    change = Change(person, after, tells_again=operator if of_choice else None)
    [number] = transaction.record([change], now)
    return number


def _note(
    transaction: Transaction,
    running: Sweep,
    person_id: int,
    number: int,
    reasons: Mapping[DifferenceKind, NotRepairedReason | None],
    now: datetime,
) -> None:
    rows = [
        {
            "sweep_id": running.id,
            "person_id": person_id,
            "kind": kind.value,
            "change_number": number,
            "not_repaired_reason": reason.value if reason else None,
            "found_time": now,
        }
        for kind, reason in reasons.items()
    ]
    if rows:
        transaction.connection.execute(insert(sweep_difference), rows)
