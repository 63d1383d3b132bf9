"""Sweeps: comparisons of the register with one operator's side, and what they found."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, func, insert, select, update

from server.domain.comparison import DifferenceKind, NotRepairedReason
from server.domain.errors import InvalidValue, Reason, Refusal
from server.domain.identifiers import OrganisationNumber
from server.store.sweep_tables import comparison, sweep, sweep_difference
from server.store.tables import mailbox_operator, person
from server.store.transaction import Answer, Reader, Transaction

# Of the persons, and not fewer nor more than so many.
_CAP_SHARE = 0.02
_LEAST_CAP, _MOST_CAP = 10, 500


class SweepState(StrEnum):
    """Where a sweep stands, as the contract names it."""

    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    STOPPED_AT_CAP = "STOPPED_AT_CAP"
    ENDED = "ENDED"


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep, as it stands."""

    id: int
    operator: OrganisationNumber
    adapter: str
    dry_run: bool
    rolling: bool
    state: SweepState
    person_count: int
    compared_count: int
    unread_count: int
    difference_count: int
    repaired_count: int
    max_repairs: int
    began_change_number: int
    above_change_number: int
    next_change_number: int
    started_time: datetime
    ended_time: datetime | None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A difference that a sweep found; not_repaired_reason is None where it was repaired."""

    id: int
    kind: DifferenceKind
    change_number: int
    not_repaired_reason: NotRepairedReason | None
    found_time: datetime


def start_sweep(
    transaction: Transaction, adapter: str, now: datetime, *, dry_run: bool, max_repairs: int
) -> Answer:
    """Begin a sweep of the adapter's operator in place of one that runs. The answer's change number
    is the sweep's id.

    max_repairs: 0 for the usual cap.

    Raises InvalidValue: UNKNOWN_OPERATOR.
    """
    # Locked, so that of several who begin at once each finds the sweep of the one before.
    operator = transaction.connection.scalar(
        select(mailbox_operator.c.organisation_number)
        .where(mailbox_operator.c.adapter == adapter)
        .with_for_update(key_share=True)
    )
    if operator is None:
        raise InvalidValue(Reason.UNKNOWN_OPERATOR, "adapter")
    running = running_sweep(transaction, adapter)
    if running:
        set_state(transaction, running.id, SweepState.ENDED, now)
    begun = _begin(transaction, operator, now, dry_run=dry_run, rolling=False, max_repairs=max_repairs)
    return Answer("STARTED", begun)


def begin_rolling(transaction: Transaction, adapter: str, now: datetime, every: timedelta) -> None:
    """Begin a sweep by the register's own, where the last one began so long ago, and did not stop at
    its cap. Dry runs do not count."""
    rows = transaction.connection.execute(
        _SELECT.where(mailbox_operator.c.adapter == adapter, ~sweep.c.dry_run)
        .order_by(sweep.c.id.desc())
        .limit(1)
    )
    last = next(map(_sweep, rows), None)
    if last and (last.state is SweepState.STOPPED_AT_CAP or last.started_time > now - every):
        return
    operator = transaction.connection.scalar(
        select(mailbox_operator.c.organisation_number).where(mailbox_operator.c.adapter == adapter)
    )
    if operator:
        _begin(transaction, operator, now, dry_run=False, rolling=True, max_repairs=0)


def _begin(
    transaction: Transaction,
    operator: OrganisationNumber,
    now: datetime,
    *,
    dry_run: bool,
    rolling: bool,
    max_repairs: int,
) -> int:
    connection = transaction.connection
    person_count: int = connection.execute(select(func.count()).select_from(person)).scalar_one()
    last = transaction.last_change_number()
    usual = max(_LEAST_CAP, min(_MOST_CAP, int(person_count * _CAP_SHARE)))
    begun: int = connection.execute(
        insert(sweep)
        .values(
            operator=operator,
            dry_run=dry_run,
            rolling=rolling,
            state=SweepState.RUNNING.value,
            person_count=person_count,
            compared_count=0,
            unread_count=0,
            difference_count=0,
            repaired_count=0,
            max_repairs=max_repairs or usual,
            began_change_number=last,
            above_change_number=0,
            next_change_number=last + 1,
            started_time=now,
        )
        .returning(sweep.c.id)
    ).scalar_one()
    return begun


def running_sweep(transaction: Transaction, adapter: str) -> Sweep | None:
    """The adapter's running sweep, locked."""
    rows = transaction.connection.execute(
        _SELECT.where(
            mailbox_operator.c.adapter == adapter, sweep.c.state == SweepState.RUNNING.value
        ).with_for_update(of=sweep)
    )
    return next(map(_sweep, rows), None)


def lock_sweep(transaction: Transaction, sweep_id: int) -> Sweep:
    """The sweep, locked. Raises Refusal: UNKNOWN_SWEEP."""
    return _one(
        transaction.connection.execute(_SELECT.where(sweep.c.id == sweep_id).with_for_update(of=sweep))
    )


def find_sweep(reader: Reader, sweep_id: int) -> Sweep:
    """The sweep. Raises Refusal: UNKNOWN_SWEEP."""
    return _one(reader.connection.execute(_SELECT.where(sweep.c.id == sweep_id)))


def end_sweep(transaction: Transaction, sweep_id: int, now: datetime) -> Sweep:
    """End the sweep, unless it has come to an end. Raises Refusal: UNKNOWN_SWEEP."""
    if lock_sweep(transaction, sweep_id).state is SweepState.RUNNING:
        set_state(transaction, sweep_id, SweepState.ENDED, now)
    return find_sweep(transaction, sweep_id)


def set_state(transaction: Transaction, sweep_id: int, state: SweepState, now: datetime) -> None:
    """Bring the sweep, which is locked, to an end."""
    transaction.connection.execute(
        update(sweep).where(sweep.c.id == sweep_id).values(state=state.value, ended_time=now)
    )


def count(transaction: Transaction, sweep_id: int, **counts: int) -> None:
    """Add to the counts of the sweep, which is locked."""
    transaction.connection.execute(
        update(sweep)
        .where(sweep.c.id == sweep_id)
        .values({name: sweep.c[name] + more for name, more in counts.items()})
    )


def finish_if_through(transaction: Transaction, sweep_id: int, now: datetime) -> None:
    """Finish the sweep, which is locked and runs, where nothing of it is left to compare."""
    left = select(comparison.c.id).where(comparison.c.sweep_id == sweep_id).exists()
    transaction.connection.execute(
        update(sweep)
        .where(sweep.c.id == sweep_id, sweep.c.next_change_number == 0, ~left)
        .values(state=SweepState.FINISHED.value, ended_time=now)
    )


def list_sweeps(reader: Reader, *, adapter: str, before: int | None, limit: int) -> list[Sweep]:
    """Sweeps by falling id below `before`; an empty adapter stands for all."""
    statement = _SELECT.order_by(sweep.c.id.desc()).limit(limit)
    if adapter:
        statement = statement.where(mailbox_operator.c.adapter == adapter)
    if before is not None:
        statement = statement.where(sweep.c.id < before)
    return [_sweep(row) for row in reader.connection.execute(statement)]


def list_differences(reader: Reader, sweep_id: int, *, after: int, limit: int) -> list[Difference]:
    """Differences that the sweep found, by rising id above `after`. Raises Refusal: UNKNOWN_SWEEP."""
    find_sweep(reader, sweep_id)
    table = sweep_difference
    rows = reader.connection.execute(
        select(table)
        .where(table.c.sweep_id == sweep_id, table.c.id > after)
        .order_by(table.c.id)
        .limit(limit)
    )
    return [
        Difference(
            id=row.id,
            kind=DifferenceKind(row.kind),
            change_number=row.change_number,
            not_repaired_reason=(
                NotRepairedReason(row.not_repaired_reason) if row.not_repaired_reason else None
            ),
            found_time=row.found_time,
        )
        for row in rows
    ]


_SELECT = select(sweep, mailbox_operator.c.adapter).join(
    mailbox_operator, mailbox_operator.c.organisation_number == sweep.c.operator
)


def _one(rows: Any) -> Sweep:
    found = next(map(_sweep, rows), None)
    if found is None:
        raise Refusal(Reason.UNKNOWN_SWEEP)
    return found


def _sweep(row: Row[Any]) -> Sweep:
    return Sweep(**{**row._asdict(), "state": SweepState(row.state)})
