"""Whether the same e-mail address or mobile number stands on other persons too.

A write never counts: it would have to lock strangers. It notes the values that it brought or
took away, in its own transaction, and this job counts them. Each flag is right in the end:
every commit that changes who has a value leaves a note of it, and a note goes only with a
commit that counted after it had seen the note. So whoever counts last has seen every change.

A flag is changed under the lock on its person, by a count made after the lock was had: who
changes that person before or after it leaves a note that is not among those read.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial

import structlog

from server.domain.caller import Caller, CallerKind
from server.domain.contact import ContactKind
from server.domain.identifiers import PersonIdentifier
from server.domain.person import Change
from server.store import shared_contact
from server.store.rows import Digest
from server.store.store import Store
from server.store.transaction import Transaction

# Values are noted again with each change, so the distinct ones are fewer.
_NOTES = 1000
# Those of each kind whose flags one transaction changes: other writes wait while it does.
_PERSONS = 100
_DIGESTS = 1000

_IDLE_SECONDS = 0.5
_STEP_SECONDS = 10.0

_REGISTER = Caller(CallerKind.REGISTER, "recount")

_log = structlog.get_logger()


class RecountSharedContact:
    """Counts from start() to end(), at once while there is work, on a thread of its own.

    Any number of servers may run it on one database: one at a time counts.
    """

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="recount-shared-contact", daemon=True)

    def start(self) -> None:
        """Count in the background."""
        self._thread.start()

    def end(self) -> None:
        """Begin no other step. What is noted waits for the next start."""
        self._ended.set()
        # One that hangs with the database is left to end with the process.
        self._thread.join(timeout=1)

    def _go_on(self) -> None:
        while not self._ended.is_set():
            try:
                more = recount(self._store, self._now(), time.monotonic() + _STEP_SECONDS)
            except Exception as fault:
                # Only the type, as everywhere; nothing was done, so it is done the next time.
                _log.warning("not_recounted", exception=type(fault).__name__)
                more = False
            if not more:
                self._ended.wait(_IDLE_SECONDS)


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
    identifiers = sorted({identifier for some in found.values() for identifier in some})
    _correct(transaction, digest, identifiers, now)
    if all(len(some) < _PERSONS for some in found.values()):
        shared_contact.forget_notes(connection, notes)
    return True


def _correct(
    transaction: Transaction, digest: Digest, identifiers: list[PersonIdentifier], now: datetime
) -> None:
    # In their order, as every writer of several persons locks them.
    persons = [transaction.person(identifier) for identifier in identifiers]
    shared: set[bytes] = set()
    for kind in ContactKind:
        digests = {digest(kind, each.contacts[kind].value) for each in persons if kind in each.contacts}
        shared |= shared_contact.on_several_persons(transaction.connection, kind, digests)
    changes = []
    for person in persons:
        contacts = {
            kind: replace(point, shared=digest(kind, point.value) in shared)
            for kind, point in person.contacts.items()
        }
        changes.append(Change(person, replace(person, contacts=contacts)))
    transaction.record(changes, now)
