"""Writes messages to people, with the change that causes them or by themselves.

For any number of persons at once, each statement for all of them.
"""

import uuid
from collections.abc import Collection, Sequence
from typing import NamedTuple

from server.domain.change import Change
from server.domain.contact import ContactKind
from server.domain.message import CHANNEL_TO, VALID_FOR, MessageKind, NewMessage, messages_of
from server.store.prepared import Run, Statement, run_for
from server.store.trace_parent import current_trace_parent


class Addressed(NamedTuple):
    """A message and to whom it is.

    person_id: id of the person's row; None where it is to an organisation.
    id: what the message is to be named; None for a name of its own.
    synthetic: whether an organisation's message is about synthetic persons.
    """

    person_id: int | None
    message: NewMessage
    change_number: int | None = None
    id: uuid.UUID | None = None
    synthetic: bool = False


def lock_messages(run: Run, changes: Sequence[tuple[int, Change]], taken_over: Collection[int]) -> None:
    """Lock the messages that write_messages_of() is going to change.

    changes: each with the id of the person's row.
    taken_over: rows whose messages move to others.
    """
    losing = [row_id for row_id, change in changes if _lost(change)]
    choosing = [row_id for row_id, change in changes if change.newly_chosen()]
    if losing or choosing or taken_over:
        run(_LOCK_MESSAGES, person_ids=[*{*losing, *choosing, *taken_over}])


def write_messages_of(run: Run, changes: Sequence[tuple[int, Change, int]]) -> None:
    """Write what people are told of the changes, and forget where those were reached who no longer are.

    changes: each with the id of the person's row and its number; no person twice.
    """
    lost = [(row_id, CHANNEL_TO[kind]) for row_id, change, _ in changes for kind in _lost(change)]
    run_for(run, _FORGET_RECIPIENTS, ("person_ids", "channels"), lost)
    write_messages(
        run,
        [
            Addressed(row_id, message, change_number=number)
            for row_id, change, number in changes
            for message in messages_of(change)
        ],
    )


def write_messages(run: Run, messages: Sequence[Addressed]) -> None:
    """Write messages, due now. One that takes the place of an earlier of its kind ends that where it
    is still queued and not under way.
    """
    chosen = [each.person_id for each in messages if each.message.kind is MessageKind.MAILBOX_CHOSEN]
    if chosen:
        run(_SUPERSEDE_CHOICES, person_ids=chosen)
    columns = (
        *("person_ids", "ids", "kinds", "channels", "languages", "operators", "numbers", "contact_kinds"),
        *("deadlines", "case_counts", "synthetic", "recipients", "states", "reasons", "tokens", "validities"),
    )
    rows = [_row(each) for each in messages]
    run_for(run, _MAKE_MESSAGES, columns, rows, trace_parent=current_trace_parent())


def _row(each: Addressed) -> tuple[object, ...]:
    message = each.message
    return (
        each.person_id,
        each.id or uuid.uuid4(),
        message.kind.value,
        message.channel.value,
        message.language.value,
        message.operator,
        each.change_number,
        message.contact_kind.value if message.contact_kind else None,
        message.deadline,
        message.case_count,
        each.synthetic,
        message.recipient,
        "SUPPRESSED" if message.suppressed else "QUEUED",
        message.suppressed,
        uuid.uuid4(),
        VALID_FOR[message.kind],
    )


def _lost(change: Change) -> list[ContactKind]:
    """The kinds of contact point by which the person can be reached no longer."""
    return [kind for kind in change.before.contacts if kind not in change.after.contacts]


_LOCK_MESSAGES = Statement(
    "lock_messages",
    "SELECT id FROM message WHERE person_id = ANY(%(person_ids)s::bigint[]) ORDER BY id FOR UPDATE",
)

# What tells a former address that it was replaced keeps that until it is sent.
_FORGET_RECIPIENTS = Statement(
    "forget_recipients",
    """
    UPDATE message SET recipient = NULL
    FROM unnest(%(person_ids)s::bigint[], %(channels)s::text[]) AS lost (person_id, channel)
    WHERE message.person_id = lost.person_id AND message.channel = lost.channel
      AND NOT (message.kind = 'CONTACT_CHANGED' AND message.state = 'QUEUED')
    """,
)

_SUPERSEDE_CHOICES = Statement(
    "supersede_choices",
    """
    UPDATE message SET state = 'SUPERSEDED'
    WHERE person_id = ANY(%(person_ids)s::bigint[]) AND kind = 'MAILBOX_CHOSEN'
      AND state = 'QUEUED' AND coalesce(leased_until_time < now(), true)
    """,
)

_MAKE_MESSAGES = Statement(
    "make_messages",
    """
    INSERT INTO message (person_id, id, kind, channel, language, operator, change_number, contact_kind,
        deadline_date, case_count, synthetic, recipient, state, reason_code, receipt_token, expires_time,
        created_time, not_before_time, failed_attempts, trace_parent)
    SELECT person_id, id, kind, channel, language, operator, number, contact_kind, deadline, case_count,
        synthetic, recipient, state, reason, token, now() + validity, now(), now(), 0, %(trace_parent)s
    FROM unnest(%(person_ids)s::bigint[], %(ids)s::uuid[], %(kinds)s::text[], %(channels)s::text[],
        %(languages)s::text[], %(operators)s::text[], %(numbers)s::bigint[], %(contact_kinds)s::text[],
        %(deadlines)s::date[], %(case_counts)s::integer[], %(synthetic)s::boolean[], %(recipients)s::text[],
        %(states)s::text[], %(reasons)s::text[], %(tokens)s::uuid[], %(validities)s::interval[])
        AS new (person_id, id, kind, channel, language, operator, number, contact_kind, deadline, case_count,
        synthetic, recipient, state, reason, token, validity)
    """,
)
