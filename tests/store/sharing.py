"""Persons who share contact info, for tests of the shared flag."""

import time
from collections.abc import Callable, Mapping, Sequence

import psycopg

from server.domain.change import Change
from server.domain.contact import ContactKind, ContactPoint
from server.domain.identifiers import PersonIdentifier
from server.domain.person import DeletionReason, Person, Status
from server.jobs.recount_shared_contact import recount
from server.store.store import Store
from server.store.transaction import Transaction
from tests.people import NIELS as NIELS_IDENTIFIER
from tests.plain_loading import load_persons
from tests.store.steps import (
    ADMINISTRATOR,
    MOBILE,
    NOW,
    in_time,
    person_of,
    write,
)

EMAIL = ContactKind.EMAIL
NIELS = PersonIdentifier(NIELS_IDENTIFIER)
ADDRESS, OTHER_ADDRESS, NUMBER = "ola@example.com", "kari@example.com", "+4791234567"
VALUES: Mapping[ContactKind, Sequence[str]] = {
    EMAIL: (ADDRESS, "Ola@example.com", OTHER_ADDRESS, "åse@example.com", "Åse@example.com"),
    MOBILE: (NUMBER, "+4741234567"),
}


def enter(store: Store, identifier: PersonIdentifier, values: Mapping[ContactKind, str]) -> None:
    write(store, identifier, lambda person: person.register(NOW, values, None))


def update(store: Store, identifier: PersonIdentifier, values: Mapping[ContactKind, str | None]) -> None:
    write(store, identifier, lambda person: person.update_contact(NOW, values))


def delete(store: Store, identifier: PersonIdentifier, reason: DeletionReason) -> None:
    write(store, identifier, lambda person: person.delete(reason))


def load(store: Store, identifiers: Sequence[PersonIdentifier], values: Mapping[ContactKind, str]) -> None:
    contacts = {kind: ContactPoint(value=value, updated=NOW) for kind, value in values.items()}
    persons = [Person(identifier=each, status=Status.ACTIVE, contacts=contacts) for each in identifiers]
    load_persons(store, persons, deadline=in_time())


def replace_identifier(store: Store, old: PersonIdentifier, new: PersonIdentifier) -> None:
    def do(transaction: Transaction) -> None:
        persons = {identifier: transaction.person(identifier) for identifier in sorted((old, new))}
        moved = Change(persons[new], persons[new].take_over(persons[old]), takes_over=old)
        tombstone = Change(persons[old], persons[old].delete(DeletionReason.NEW_IDENTITY))
        transaction.record([moved, tombstone], NOW)

    store.write(ADMINISTRATOR, do, deadline=in_time())


def write_as_code_from_before(
    database: psycopg.Connection, identifier: PersonIdentifier, email: str | None
) -> None:
    """Change the e-mail address without a thought of digests and notes."""
    database.execute(
        """WITH next AS (UPDATE register SET last_change_number = last_change_number + 1
                         RETURNING last_change_number)
           UPDATE person SET email = %s, email_updated_time = %s, change_number = last_change_number
           FROM next WHERE identifier = %s AND status = 'ACTIVE'""",
        (email, NOW if email else None, identifier),
    )


def recount_all(store: Store) -> int:
    """Recount until there is nothing more to do; returns in how many steps."""
    done = 1
    while recount(store, NOW, in_time()):
        done += 1
        assert done < 500, "the recount makes work for itself"
    return done


def shared(store: Store, *identifiers: PersonIdentifier, kind: ContactKind = EMAIL) -> list[bool]:
    return [person_of(store, each).contacts[kind].shared for each in identifiers]


def history(database: psycopg.Connection, identifier: PersonIdentifier) -> list[tuple[str, str]]:
    """What changed and by which kind of caller, in order."""
    return database.execute(
        """SELECT field, caller_kind FROM history JOIN person ON person.id = person_id
           WHERE identifier = %s ORDER BY history.change_number, field""",
        (identifier,),
    ).fetchall()


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def somebody_waits_for_a_lock(database: psycopg.Connection) -> bool:
    waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(database.execute(waiting).fetchall())
