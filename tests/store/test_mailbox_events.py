"""Events applied many at a time: as one by one, in one transaction, locked in one order."""

import itertools
from collections.abc import Callable, Sequence
from operator import methodcaller
from typing import NoReturn

import psycopg
import pytest

from server.domain.caller import Caller, CallerKind
from server.domain.change import Change
from server.domain.errors import Reason, Refusal
from server.domain.evidence import AssuranceLevel, Evidence
from server.domain.identifiers import MailboxAddress, OrganisationNumber, PersonIdentifier
from server.domain.person import DeletionReason, Mailbox, Person
from server.encoded_person import encode_person
from server.store.mailbox_events import Event, apply_events
from server.store.store import Store
from server.store.transaction import Answer, Transaction, WriteRequest
from tests.store import steps
from tests.store.steps import (
    DIGIPOST,
    EBOKS,
    KARI,
    MAILBOXES,
    MOBILE,
    NOW,
    OLA,
    in_time,
    register,
    request,
    write,
)

EVIDENCE = Evidence(
    eid="BankID", level=AssuranceLevel.HIGH, agreed=NOW, agreed_text_sha256=bytes(32), occurred=NOW
)
MOVED = Mailbox(operator=DIGIPOST, address=MailboxAddress("another.address#1"), certificate=b"certificate")
Verb = Callable[[Person], Person]
# What operators do to a person with a mailbox at each of them.
VERBS: tuple[tuple[Verb, bool], ...] = (
    (lambda person: person.update_mailbox(MOVED), False),
    (lambda person: person.update_mailbox(person.mailboxes[0]), False),
    (lambda person: person.fill_choice(DIGIPOST), False),
    (lambda person: person.delete_mailbox(DIGIPOST), True),
)
# Of one person each: what it left, but for what differs from run to run.
LEFT = {
    "person": "SELECT to_jsonb(person) - '{id,identifier,change_number,encoded}'::text[]",
    "mailbox": "SELECT to_jsonb(mailbox) - 'person_id'",
    "history": "SELECT to_jsonb(history) - '{id,person_id,change_number}'::text[] "
    "|| jsonb_build_object('last', history.change_number = person.change_number)",
    "mailbox_change": "SELECT operator, mailbox_change.change_number = person.change_number",
    "delivery": "SELECT operator, delivery.change_number = person.change_number, failed_attempts, refused",
    "message": "SELECT state, reason_code, operator, message.language, "
    "message.change_number = person.change_number",
    "mailbox_evidence": "SELECT operator, eid, level, mailbox_evidence.change_number = person.change_number",
}


def event(
    store: Store,
    identifier: PersonIdentifier,
    verb: Verb,
    *,
    removes: bool = False,
    sequence: int = 1,
    evidence: Evidence | None = EVIDENCE,
) -> Event:
    return Event(
        identifier=identifier,
        person_key=store.person_key(identifier),
        verb=verb,
        removes=removes,
        sequence=sequence,
        evidence=evidence,
    )


def apply(
    store: Store, events: Sequence[Event], operator: OrganisationNumber = DIGIPOST
) -> list[int | Refusal]:
    return store.write(
        Caller(CallerKind.OPERATOR, operator),
        lambda transaction: apply_events(transaction, operator, events, NOW),
        deadline=in_time(),
    )


def write_many(
    store: Store,
    requests: Sequence[WriteRequest],
    do: Callable[[Transaction, Sequence[int]], Sequence[Answer]],
) -> list[Answer | None]:
    return store.write_many(steps.ADMINISTRATOR, requests, do, deadline=in_time())


def left(database: psycopg.Connection, identifier: PersonIdentifier) -> dict[str, list[str]]:
    """All rows of the person, as far as they can be compared with another's."""
    found = {}
    for table, columns in LEFT.items():
        joined = "person" if table == "person" else f"person JOIN {table} ON person_id = person.id"
        query = f"{columns} FROM {joined} WHERE identifier = %s"
        found[table] = sorted(map(str, database.execute(query.encode(), [identifier]).fetchall()))
    return found


def reason(outcome: int | Refusal) -> Reason | None:
    return outcome.reason if isinstance(outcome, Refusal) else None


def test_events_applied_together_leave_what_they_leave_one_by_one(
    store: Store, database: psycopg.Connection
) -> None:
    states: list[Verb] = [
        lambda person: person,
        lambda person: person.choose_mailbox(DIGIPOST),
        lambda person: person.choose_mailbox(EBOKS),
        lambda person: person.reserve(NOW),
        lambda person: person.update_contact(NOW, {MOBILE: None}),
    ]
    cases = list(itertools.product(states, VERBS))
    persons = steps.some_persons(2 * len(cases))
    together, alone = persons[: len(cases)], persons[len(cases) :]
    for half in (together, alone):
        for number, (identifier, (state, _)) in enumerate(zip(half, cases, strict=True)):
            # In each half the same values, each of them once in it.
            register(store, identifier, mobile=f"+47912345{number:02}")
            write(store, identifier, state)

    def events(half: Sequence[PersonIdentifier]) -> list[Event]:
        return [
            event(store, identifier, verb, removes=removes)
            for identifier, (_, (verb, removes)) in zip(half, cases, strict=True)
        ]

    outcomes = apply(store, events(together))
    one_by_one = [outcome for each in events(alone) for outcome in apply(store, [each])]

    assert list(map(reason, outcomes)) == list(map(reason, one_by_one))
    assert {reason(outcome) for outcome in outcomes} == {None, Reason.ALREADY_CHOSEN, Reason.RESERVED}
    for identifier, other, outcome in zip(together, alone, outcomes, strict=True):
        assert left(database, identifier) == left(database, other)
        if isinstance(outcome, int):
            assert steps.person_of(store, identifier).change_number == outcome
    for identifier, encoded in database.execute("SELECT identifier, encoded FROM person").fetchall():
        assert encoded == encode_person(steps.person_of(store, identifier))


def test_numbers_of_events_applied_together_rise_without_gaps_in_their_order(store: Store) -> None:
    persons = steps.some_persons(5)
    for identifier in persons:
        register(store, identifier)
    # Locked in another order.
    mixed = [persons[place] for place in (3, 0, 4, 2, 1)]

    outcomes = apply(
        store, [event(store, each, lambda person: person.fill_choice(DIGIPOST)) for each in mixed]
    )

    assert outcomes == [6, 7, 8, 9, 10]


def test_requests_that_were_answered_before_get_that_answer_and_only_the_others_are_done(
    store: Store, database: psycopg.Connection
) -> None:
    known, new, reused = request(), request(), request(b"first")
    seen: list[Sequence[int]] = []

    def do(transaction: Transaction, places: Sequence[int]) -> list[Answer]:
        seen.append(places)
        return [Answer("DONE", 7 + place, 3) for place in places]

    first = write_many(store, [known, reused], do)
    again = write_many(store, [new, known, WriteRequest(reused.request_id, b"second"), request()], do)
    all_known = write_many(store, [known], do)

    assert first == [Answer("DONE", 7, 3), Answer("DONE", 8, 3)]
    assert again == [
        Answer("DONE", 7, 3),
        Answer("DONE", 7, 3, duplicate=True),
        None,
        Answer("DONE", 10, 3),
    ]
    assert all_known == [Answer("DONE", 7, 3, duplicate=True)]
    assert seen == [[0, 1], [0, 3], []]


def test_a_request_of_many_is_known_to_a_single_write_and_the_other_way_round(store: Store) -> None:
    in_many, alone = request(), request()

    write_many(store, [in_many], lambda _, places: [Answer("MANY")])
    store.write(steps.ADMINISTRATOR, lambda _: Answer("ONE"), deadline=in_time(), request=alone)

    assert store.write(
        steps.ADMINISTRATOR, lambda _: Answer("ONE"), deadline=in_time(), request=in_many
    ) == Answer("MANY", duplicate=True)
    assert write_many(store, [alone], lambda _, places: [Answer("MANY")] * len(places)) == [
        Answer("ONE", duplicate=True)
    ]


def test_whatever_breaks_a_write_of_many_undoes_all_of_it(store: Store, database: psycopg.Connection) -> None:
    register(store, OLA)

    def do(transaction: Transaction, places: Sequence[int]) -> NoReturn:
        given = event(store, OLA, lambda person: person.fill_choice(DIGIPOST))
        apply_events(transaction, DIGIPOST, [given], NOW)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_many(store, [request(), request()], do)

    assert steps.person_of(store, OLA).chosen is None
    for table in ("request", "mailbox_sequence", "mailbox_evidence", "delivery", "message"):
        assert not database.execute(f"TABLE {table}".encode()).fetchall()


def test_sequences_are_each_operators_own_and_tell_nobody(store: Store, database: psycopg.Connection) -> None:
    register(store, OLA)
    for operator in (DIGIPOST, EBOKS):
        gone = event(store, OLA, methodcaller("delete_mailbox", operator), removes=True)
        assert list(map(reason, apply(store, [gone], operator))) == [None]

    rows = database.execute("SELECT operator, person_key, last_sequence FROM mailbox_sequence").fetchall()

    assert sorted((operator, last) for operator, _, last in rows) == [(EBOKS, 1), (DIGIPOST, 1)]
    assert not any(OLA.encode() in key for _, key, _ in rows)


def test_evidence_moves_to_a_new_identifier_and_is_erased_with_the_person(
    store: Store, database: psycopg.Connection
) -> None:
    register(store, OLA)
    apply(store, [event(store, OLA, lambda person: person.update_mailbox(MOVED))])

    def replace(transaction: Transaction) -> None:
        old, new = (transaction.person(each) for each in sorted((OLA, KARI), reverse=True))
        taken_over = Change(new, new.take_over(old), takes_over=old.identifier)
        left_behind = Change(old, old.delete(DeletionReason.NEW_IDENTITY))
        transaction.record([taken_over, left_behind], NOW)

    owners = "SELECT identifier FROM mailbox_evidence JOIN person ON person.id = person_id"
    assert database.execute(owners).fetchall() == [(OLA,)]
    store.write(steps.ADMINISTRATOR, replace, deadline=in_time())
    assert database.execute(owners).fetchall() == [(KARI,)]
    write(store, KARI, lambda person: person.delete(DeletionReason.OWN_CHOICE))
    assert database.execute(owners).fetchall() == []


def test_no_evidence_is_kept_for_what_was_refused_or_not_given(
    store: Store, database: psycopg.Connection
) -> None:
    register(store, OLA)
    register(store, KARI)
    write(store, KARI, lambda person: person.reserve(NOW))

    apply(
        store,
        [
            event(store, OLA, lambda person: person.fill_choice(DIGIPOST), evidence=None),
            event(store, KARI, lambda person: person.fill_choice(DIGIPOST)),
        ],
    )

    assert not database.execute("TABLE mailbox_evidence").fetchall()


def test_no_evidence_is_kept_of_the_event_after_which_nothing_is_left_of_the_person(
    store: Store, database: psycopg.Connection
) -> None:
    def only_reserved(person: Person) -> Person:
        return person.reserve(NOW).create_mailbox(MOVED)

    write(store, OLA, only_reserved)
    apply(store, [event(store, OLA, lambda person: person.update_mailbox(MAILBOXES[0]))])
    assert database.execute("TABLE mailbox_evidence").fetchall()

    apply(store, [event(store, OLA, methodcaller("delete_mailbox", DIGIPOST), removes=True, sequence=2)])

    assert not database.execute("TABLE mailbox_evidence").fetchall()
