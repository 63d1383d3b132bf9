"""What follows where mailboxes or the choice changed: rows of mailboxes, deliveries, messages, evidence.

For any number of persons at once, each statement for all of them.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from server.domain.change import Change
from server.domain.identifiers import OrganisationNumber
from server.domain.person import OperatorState
from server.store.message_writes import lock_messages, write_messages_of
from server.store.prepared import Run, Statement, run_for
from server.store.rows import mailbox_values
from server.store.trace_parent import current_trace_parent


class Numbered(NamedTuple):
    """A change that has its number, and the id of the person's row."""

    row_id: int
    change: Change
    number: int


def lock_what_follows(run: Run, changes: Sequence[tuple[int, Change]], taken_over: Collection[int]) -> None:
    """Lock the deliveries and messages that write_what_follows() is going to change; withdraw requests
    for accounts that are wanted no more.

    changes: each with the id of the person's row.
    taken_over: rows whose messages move to others.
    """
    withdrawing = {row_id for row_id, change in changes if change.withdraws_account_request()}
    told = {row_id for row_id, change in changes if change.operators_to_tell()}
    _lock_deliveries(run, told | withdrawing, withdrawing)
    lock_messages(run, changes, taken_over)


def withdraw_account_requests(run: Run, person_ids: Collection[int]) -> None:
    """Make deliveries that were to open an account ordinary ones, due now; the persons stand locked.

    The outcome of a lease that is out counts no more.
    """
    _lock_deliveries(run, person_ids, person_ids)


def write_what_follows(run: Run, written: Sequence[Numbered]) -> None:
    """Write all that a change asks for besides the person's own row and history.

    written: no person twice.
    """
    _write_mailboxes(run, written)
    noted = [
        (each.row_id, operator, each.number)
        for each in written
        for operator in each.change.operators_concerned()
    ]
    run_for(run, _NOTE_MAILBOX_CHANGES, ("person_ids", "operators", "numbers"), noted)
    due = [
        (each.row_id, operator, each.number)
        for each in written
        for operator in each.change.operators_to_tell()
    ]
    run_for(
        run,
        _MAKE_DELIVERIES,
        ("person_ids", "operators", "numbers"),
        due,
        trace_parent=current_trace_parent(),
    )
    write_messages_of(run, [(each.row_id, each.change, each.number) for each in written])
    bare = [each.row_id for each in written if each.change.leaves_nothing()]
    if bare:
        run(_ERASE_EVIDENCE, person_ids=bare)


def _lock_deliveries(run: Run, person_ids: Collection[int], withdrawing: Collection[int]) -> None:
    if not person_ids:
        return
    locked = run(_LOCK_DELIVERIES, person_ids=list(person_ids))
    withdrawn = [row["id"] for row in locked if row["open_account"] and row["person_id"] in withdrawing]
    if withdrawn:
        run(_WITHDRAW_ACCOUNT_REQUESTS, ids=withdrawn)


def _write_mailboxes(run: Run, written: Sequence[Numbered]) -> None:
    gone: list[tuple[int, OrganisationNumber]] = []
    put: dict[bool, list[tuple[Any, ...]]] = {False: [], True: []}
    for row_id, change, _ in written:
        before, after = change.before, change.after
        told = change.operators_to_tell()
        gone += [(row_id, box.operator) for box in before.mailboxes if not after.mailbox_at(box.operator)]
        for box in after.mailboxes:
            if box.operator in told:
                box = replace(box, operator_state=OperatorState.PENDING)
            old, values = before.mailbox_at(box.operator), mailbox_values(after, box)
            if old is None or values != mailbox_values(before, old):
                put[values["chosen"]].append((row_id, *values.values()))
    run_for(run, _DELETE_MAILBOXES, ("person_ids", "operators"), gone)
    # The old choice goes first: the database allows one chosen mailbox at any moment.
    for chosen in (False, True):
        names = ("person_ids", "operators", "addresses", "certificates", "chosen", "operator_states")
        run_for(run, _PUT_MAILBOXES, names, put[chosen])


_LOCK_DELIVERIES = Statement(
    "lock_deliveries",
    """
    SELECT id, person_id, open_account FROM delivery
    WHERE person_id = ANY(%(person_ids)s::bigint[]) ORDER BY id FOR UPDATE
    """,
)

_WITHDRAW_ACCOUNT_REQUESTS = Statement(
    "withdraw_account_requests",
    """
    UPDATE delivery
    SET open_account = false, leased_change_number = NULL, not_before_time = now(), failed_attempts = 0,
        last_error_code = NULL, refused = false
    WHERE id = ANY(%(ids)s::bigint[])
    """,
)

_DELETE_MAILBOXES = Statement(
    "delete_mailboxes",
    """
    DELETE FROM mailbox
    USING unnest(%(person_ids)s::bigint[], %(operators)s::text[]) AS gone (person_id, operator)
    WHERE mailbox.person_id = gone.person_id AND mailbox.operator = gone.operator
    """,
)

_PUT_MAILBOXES = Statement(
    "put_mailboxes",
    """
    INSERT INTO mailbox (person_id, operator, address, certificate, chosen, operator_state)
    SELECT * FROM unnest(%(person_ids)s::bigint[], %(operators)s::text[], %(addresses)s::text[],
        %(certificates)s::bytea[], %(chosen)s::boolean[], %(operator_states)s::text[])
    ON CONFLICT (person_id, operator) DO UPDATE SET address = excluded.address,
        certificate = excluded.certificate, chosen = excluded.chosen,
        operator_state = excluded.operator_state
    """,
)

_NOTE_MAILBOX_CHANGES = Statement(
    "note_mailbox_changes",
    """
    INSERT INTO mailbox_change (person_id, operator, change_number)
    SELECT * FROM unnest(%(person_ids)s::bigint[], %(operators)s::text[], %(numbers)s::bigint[])
    ON CONFLICT (person_id, operator) DO UPDATE SET change_number = excluded.change_number
    """,
)

# A new change makes the delivery due at once and counts its attempts anew; it leaves a lease
# alone, whose holder will find that its number is no longer the last.
_MAKE_DELIVERIES = Statement(
    "make_deliveries",
    """
    INSERT INTO delivery (person_id, operator, change_number, created_time, not_before_time,
        failed_attempts, last_error_code, refused, trace_parent)
    SELECT person_id, operator, number, now(), now(), 0, NULL, false, %(trace_parent)s
    FROM unnest(%(person_ids)s::bigint[], %(operators)s::text[], %(numbers)s::bigint[])
        AS due (person_id, operator, number)
    ON CONFLICT (person_id, operator) DO UPDATE SET change_number = excluded.change_number,
        created_time = excluded.created_time, not_before_time = excluded.not_before_time,
        failed_attempts = excluded.failed_attempts, last_error_code = excluded.last_error_code,
        refused = excluded.refused, trace_parent = excluded.trace_parent
    """,
)

_ERASE_EVIDENCE = Statement(
    "erase_evidence", "DELETE FROM mailbox_evidence WHERE person_id = ANY(%(person_ids)s::bigint[])"
)
