"""What operators report, applied in the operators' own order, with the evidence."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from server.domain.change import Change
from server.domain.errors import Reason, Refusal
from server.domain.evidence import Evidence
from server.domain.identifiers import OrganisationNumber, PersonIdentifier
from server.domain.person import Person
from server.store.prepared import Statement
from server.store.transaction import Transaction

# What a removal says that found nothing; it counts all the same.
_NOTHING_TO_REMOVE = (Reason.NO_MAILBOX, Reason.PERSON_NOT_FOUND)


@dataclass(frozen=True, kw_only=True)
class Event:
    """What an operator says happened to a mailbox.

    person_key: the person in the table of sequences, from Store.person_key().
    verb: what it does to the person; may raise Refusal.
    removes: whether the mailbox is gone by it.
    sequence: the operator's own count of its events for the person; 0 where it does not count.
    """

    identifier: PersonIdentifier
    person_key: bytes
    verb: Callable[[Person], Person]
    removes: bool
    sequence: int = 0
    evidence: Evidence | None = None


def apply_events(
    transaction: Transaction, operator: OrganisationNumber, events: Sequence[Event], now: datetime
) -> list[int | Refusal]:
    """Apply the events; for each the person's change number afterwards, or why it was not applied.

    events: no person twice.

    An event whose sequence is not above that of the last one applied is OUTDATED. What is refused
    does not count as applied, except a removal that found nothing.
    """
    persons = transaction.lock_persons([event.identifier for event in events])
    outcomes = _in_order(
        transaction, operator, [(event, _outcome(event, persons[event.identifier])) for event in events]
    )
    changes = [outcome for outcome in outcomes if isinstance(outcome, Change)]
    numbers = transaction.record(changes, now)
    given = iter(numbers)
    _keep_evidence(transaction, operator, events, outcomes, numbers)
    return [outcome if isinstance(outcome, Refusal) else next(given) for outcome in outcomes]


def _outcome(event: Event, before: Person) -> Change | Refusal:
    try:
        return Change(before, event.verb(before))
    except Refusal as refusal:
        return refusal


def _in_order(
    transaction: Transaction,
    operator: OrganisationNumber,
    decided: Sequence[tuple[Event, Change | Refusal]],
) -> list[Change | Refusal]:
    """The same, but OUTDATED where the sequence says so; and count those that are applied."""
    counts, others = {}, []
    for event, outcome in decided:
        if not event.sequence:
            continue
        if isinstance(outcome, Change) or (event.removes and outcome.reason in _NOTHING_TO_REMOVE):
            counts[event.person_key] = event.sequence
        else:
            others.append(event.person_key)
    last: dict[bytes, int] = {}
    if others:
        rows = transaction.run(_LAST_SEQUENCES, operator=operator, person_keys=others)
        last = {row["person_key"]: row["last_sequence"] for row in rows}
    advanced: set[bytes] = set()
    if counts:
        keys, sequences = list(counts), list(counts.values())
        rows = transaction.run(_ADVANCE, operator=operator, person_keys=keys, sequences=sequences)
        advanced = {row["person_key"] for row in rows}

    def is_outdated(event: Event) -> bool:
        if event.person_key in counts:
            return event.person_key not in advanced
        return 0 < event.sequence <= last.get(event.person_key, 0)

    return [Refusal(Reason.OUTDATED) if is_outdated(event) else outcome for event, outcome in decided]


def _keep_evidence(
    transaction: Transaction,
    operator: OrganisationNumber,
    events: Sequence[Event],
    outcomes: Sequence[Change | Refusal],
    numbers: Sequence[int],
) -> None:
    given = iter(numbers)
    rows = []
    for event, outcome in zip(events, outcomes, strict=True):
        if isinstance(outcome, Refusal):
            continue
        number, evidence = next(given), event.evidence
        # A later deletion would find nothing to delete, and leave it.
        if evidence and not outcome.leaves_nothing():
            rows.append(
                (
                    transaction.row_id(event.identifier),
                    number,
                    evidence.eid,
                    evidence.level.value,
                    evidence.agreed,
                    evidence.agreed_text_sha256,
                    evidence.occurred,
                )
            )
    if rows:
        names = ("person_ids", "numbers", "eids", "levels", "agreed", "texts", "occurred")
        columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        transaction.run(_KEEP_EVIDENCE, operator=operator, **columns)


_LAST_SEQUENCES = Statement(
    "last_sequences",
    """
    SELECT person_key, last_sequence FROM mailbox_sequence
    WHERE operator = %(operator)s AND person_key = ANY(%(person_keys)s::bytea[])
    """,
)

# Waits for whoever counts an event for the same person, also one without a row of its own to lock,
# and in one order everywhere.
_ADVANCE = Statement(
    "advance_sequences",
    """
    INSERT INTO mailbox_sequence (operator, person_key, last_sequence)
    SELECT %(operator)s, * FROM unnest(%(person_keys)s::bytea[], %(sequences)s::bigint[])
        AS given (person_key, sequence) ORDER BY person_key
    ON CONFLICT (operator, person_key) DO UPDATE SET last_sequence = excluded.last_sequence
    WHERE mailbox_sequence.last_sequence < excluded.last_sequence
    RETURNING person_key
    """,
)

_KEEP_EVIDENCE = Statement(
    "keep_evidence",
    """
    INSERT INTO mailbox_evidence (person_id, change_number, eid, level, agreed_time, agreed_text_sha256,
        occurred_time, operator)
    SELECT *, %(operator)s FROM unnest(%(person_ids)s::bigint[], %(numbers)s::bigint[], %(eids)s::text[],
        %(levels)s::text[], %(agreed)s::timestamptz[], %(texts)s::bytea[], %(occurred)s::timestamptz[])
    """,
)
