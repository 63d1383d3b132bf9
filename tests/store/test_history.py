"""The history moves with its person, and whoever moves it waits before the counter only."""

from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import psycopg
import pytest

from server.domain.caller import CallerKind
from server.domain.change import Change
from server.domain.identifiers import PersonIdentifier
from server.domain.outcome import Sent
from server.domain.person import DeletionReason
from server.store.history import HistoryEntry, list_history
from server.store.message_outcomes import finish_message
from server.store.store import Store
from server.store.transaction import Transaction
from tests import people
from tests.store import steps
from tests.store.steps import (
    DIGIPOST,
    KARI,
    MOBILE,
    NOW,
    OLA,
    choose,
    in_time,
    lease_sms,
    person_of,
    register,
    write,
)

NIELS = PersonIdentifier(people.NIELS)


def _replace(store: Store, old: PersonIdentifier, new: PersonIdentifier) -> list[int]:
    def do(transaction: Transaction) -> list[int]:
        before = {each: transaction.person(each) for each in sorted((old, new))}
        changes = [
            Change(before[new], before[new].take_over(before[old]), takes_over=old),
            Change(before[old], before[old].delete(DeletionReason.NEW_IDENTITY)),
        ]
        return transaction.record(changes, NOW)

    return store.write(steps.ADMINISTRATOR, do, deadline=in_time())


def _history(store: Store, identifier: PersonIdentifier) -> list[HistoryEntry]:
    return store.read(
        lambda reader: list_history(reader, identifier, before=None, limit=100), deadline=in_time()
    )


def test_a_change_is_one_entry_with_its_fields_in_the_order_of_the_domain(store: Store) -> None:
    register(store, OLA)
    choose(store, OLA, DIGIPOST)

    assert _history(store, OLA) == [
        HistoryEntry(2, NOW, CallerKind.CITIZEN, ("chosen",)),
        HistoryEntry(1, NOW, CallerKind.CITIZEN, ("status", "mailboxes", "email", "mobile")),
    ]


def test_each_identifier_has_its_own_number_and_the_old_one_keeps_nothing_but_its_end(
    store: Store, database: psycopg.Connection
) -> None:
    register(store, OLA)
    choose(store, OLA, DIGIPOST)

    new, old = _replace(store, OLA, NIELS)

    assert (new, old) == (3, 4)
    assert (person_of(store, NIELS).change_number, person_of(store, OLA).change_number) == (3, 4)
    assert [entry.change_number for entry in _history(store, NIELS)] == [3, 2, 1]
    assert [entry.change_number for entry in _history(store, OLA)] == [4]
    owner = "SELECT identifier, state FROM message JOIN person ON person.id = person_id"
    assert database.execute(owner).fetchall() == [(NIELS, "QUEUED")]


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("reachable", [False, True])
def test_a_move_that_waits_for_an_adapter_holds_up_no_other_write(
    store: Store, known: bool, reachable: bool
) -> None:
    for identifier in (OLA, KARI):
        register(store, identifier)
    choose(store, OLA, DIGIPOST)
    [message] = lease_sms(store)
    if not reachable:
        write(store, OLA, lambda person: person.update_contact(NOW, {MOBILE: None}))
    if known:
        register(store, NIELS)
        write(store, NIELS, lambda person: person.delete(DeletionReason.OWN_CHOICE))
    waiting: list[Future[list[int]]] = []

    with ThreadPoolExecutor() as threads:

        def finish_and_stay(transaction: Transaction) -> int:
            finish_message(transaction, "SMS", message.id, message.lease_token, Sent("LINK", "4711"))
            waiting.append(threads.submit(_replace, store, OLA, NIELS))
            with pytest.raises(TimeoutError):
                waiting[0].result(timeout=0.2)
            return write(store, KARI, lambda person: person.reserve(NOW)).change_number

        meanwhile = store.write(steps.ADMINISTRATOR, finish_and_stay, deadline=in_time())
        assert waiting[0].result(timeout=10) == [meanwhile + 1, meanwhile + 2]


def test_one_of_two_who_replace_the_same_identifier_at_once_is_done(store: Store) -> None:
    successors = steps.some_persons(4)
    register(store, OLA)

    done = steps.together(
        *(partial(steps.refusal_of, partial(_replace, store, OLA, successor)) for successor in successors)
    )

    assert done.count(None) == 1
    winner = successors[done.index(None)]
    assert len(_history(store, winner)) == 2
    assert {person_of(store, each).change_number > 0 for each in successors if each != winner} == {False}
