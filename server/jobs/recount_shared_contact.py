"""Whether the same e-mail address or mobile number stands on other persons too.

A write never counts: it would have to lock strangers. It notes the values that it brought or
took away, in its own transaction, and this job counts them. Each flag is right in the end:
every commit that changes who has a value leaves a note of it, and a note goes only with a
commit that counted after it had seen the note. So whoever counts last has seen every change.

A flag is changed under the lock on its person, by a count made after the lock was had: who
changes that person before or after it leaves a note that is not among those read.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial

from server.domain.caller import Caller, CallerKind
from server.domain.contact import ContactKind
from server.encoded_person import with_shared
from server.jobs.background import Background
from server.store import shared_contact
from server.store.rows import Digest
from server.store.store import Store
from server.store.transaction import Transaction

# Those of each kind whose flags one transaction changes: other writes wait while it does.
_PERSONS = 500
# Most shared values stand on two persons: these notes are done in one transaction then.
_NOTES = 200
_DIGESTS = 1000

_IDLE_SECONDS = 0.5

_REGISTER = Caller(CallerKind.REGISTER, "recount")


def recount_shared_contact(store: Store, now: Callable[[], datetime]) -> Background:
    """The job, to be started. Any number of servers may run it on one database: one at a time counts."""
    return Background(
        "recount-shared-contact",
        lambda deadline: recount(store, now(), deadline),
        idle_seconds=_IDLE_SECONDS,
    )


def recount(store: Store, now: datetime, deadline: float) -> bool:
    """Do one step; returns whether there may be more to do at once.

    deadline: on time.monotonic().

    Raises Refusal: DEADLINE, CONFLICT, DATABASE_UNAVAILABLE. Nothing is lost: call it again.
    """
    return store.write(_REGISTER, partial(_step, digest=store.digest, now=now), deadline=deadline)


def _step(transaction: Transaction, digest: Digest, now: datetime) -> bool:
    connection = transaction.connection
    if not shared_contact.only_here(connection):
        return False
    # Notes first: a value that lost its digest with a change noted here gets it before the count.
    notes = shared_contact.oldest_notes(connection, _NOTES)
    if shared_contact.give_digests(connection, digest, _DIGESTS):
        return True
    if not notes.ids:
        return False
    found = {
        kind: shared_contact.wrongly_flagged(connection, kind, digests, _PERSONS)
        for kind, digests in notes.digests.items()
    }
    _correct(transaction, {row_id for some in found.values() for row_id in some}, now)
    if any(len(some) == _PERSONS for some in found.values()):
        return True
    shared_contact.forget_notes(connection, notes)
    # Else the few that came meanwhile wait and are done together: a step costs as much as many writes.
    return len(notes.ids) == _NOTES


def _correct(transaction: Transaction, row_ids: set[int], now: datetime) -> None:
    connection = transaction.connection
    # In one order, as every writer of several persons locks them; counted by statements of
    # their own, which see all that was committed before the last lock was had.
    persons = shared_contact.lock(connection, row_ids)
    several = {
        kind: shared_contact.on_several_persons(
            connection, kind, {person.digests[kind] for person in persons if kind in person.digests}
        )
        for kind in ContactKind
    }
    changed = []
    for person in persons:
        shared = {kind: digest in several[kind] for kind, digest in person.digests.items()}
        if shared != person.shared:
            encoded = with_shared(person.encoded, shared) if person.encoded else None
            changed.append((person, replace(person, shared=shared, encoded=encoded)))
    if changed:
        numbers = transaction.take_change_numbers(len(changed))
        shared_contact.set_flags(connection, changed, numbers, now)
