"""Messages to people: one for each choice, to the mobile of the moment, erased with the person."""

import threading
from collections.abc import Callable

import psycopg
import pytest

from server.domain.outcome import Refused, Sent, TryLater
from server.domain.person import DeletionReason, Language
from server.store.messages import LeasedMessage
from server.store.store import Store
from tests.store import steps
from tests.store.steps import (
    AT_ONCE,
    DIGIPOST,
    EBOKS,
    MOBILE,
    NOW,
    OLA,
    choose,
    finish_sms,
    lease_sms,
    message_states,
    messages,
    refusal_of,
    register,
    retry_sms,
    write,
)

SENT = Sent("link", "gateway-1")


def _recipients(database: psycopg.Connection) -> list[str]:
    kept = database.execute("SELECT recipient FROM message WHERE recipient IS NOT NULL").fetchall()
    return [row[0] for row in kept]


def _delete(store: Store) -> None:
    write(store, OLA, lambda person: person.delete(DeletionReason.OWN_CHOICE))


def _remove_mobile(store: Store) -> None:
    write(store, OLA, lambda person: person.update_contact(NOW, {MOBILE: None}))


@pytest.fixture
def leased(store: Store) -> LeasedMessage:
    """The message of Ola's choice of Digipost, leased."""
    register(store, OLA)
    choose(store, OLA, DIGIPOST)
    [message] = lease_sms(store)
    return message


def test_a_message_that_a_later_choice_outdated_is_not_sent_after_that(
    store: Store, leased: LeasedMessage
) -> None:
    # Under lease, so the later choice cannot supersede it.
    later = choose(store, OLA, EBOKS)
    [second] = lease_sms(store)
    finish_sms(store, second, SENT)
    finish_sms(store, leased, TryLater(AT_ONCE, "HTTP_503"))

    assert lease_sms(store) == []

    assert {row.change_number: row.state for row in messages(store)} == {
        later: "SENT",
        later - 1: "SUPERSEDED",
    }


def test_each_committed_change_of_operator_has_one_message(store: Store) -> None:
    register(store, OLA)
    assert messages(store) == []
    first = choose(store, OLA, DIGIPOST)
    choose(store, OLA, DIGIPOST)
    write(store, OLA, lambda person: person.reserve(NOW))
    refusal_of(lambda: choose(store, OLA, EBOKS))
    write(store, OLA, lambda person: person.cancel_reservation(NOW))
    second = choose(store, OLA, EBOKS)
    write(store, OLA, lambda person: person.delete_mailbox(EBOKS))
    third = choose(store, OLA, DIGIPOST)
    assert [row.change_number for row in messages(store)] == [third, second, first]


def test_a_message_is_leased_with_all_that_its_text_needs(store: Store) -> None:
    register(store, OLA)
    write(store, OLA, lambda person: person.set_language(NOW, Language.SE))
    choose(store, OLA, EBOKS)

    [message] = lease_sms(store)

    assert (message.kind, message.language, message.operator_name) == ("MAILBOX_CHOSEN", "se", "e-Boks")
    assert (message.recipient, message.identifier) == ("+4791234567", OLA)
    assert lease_sms(store) == []


def test_the_language_is_bokmål_where_the_person_chose_none(leased: LeasedMessage) -> None:
    assert leased.language == "nb"


def test_a_newer_choice_supersedes_what_is_queued_and_not_leased(store: Store) -> None:
    register(store, OLA)
    choose(store, OLA, DIGIPOST)
    choose(store, OLA, EBOKS)
    assert message_states(store) == [("QUEUED", None), ("SUPERSEDED", None)]
    assert [message.operator_name for message in lease_sms(store)] == ["e-Boks"]


@pytest.mark.parametrize("outcome", [None, SENT, Refused("HTTP_400")])
def test_a_newer_choice_leaves_what_is_leased_or_finished_as_it_is(
    store: Store, leased: LeasedMessage, outcome: Sent | Refused | None
) -> None:
    if outcome:
        finish_sms(store, leased, outcome)
    before = message_states(store)
    choose(store, OLA, EBOKS)
    assert message_states(store) == [("QUEUED", None), *before]


def test_a_choice_of_a_person_without_mobile_is_told_by_email(store: Store) -> None:
    register(store, OLA, mobile=None)
    choose(store, OLA, DIGIPOST)
    assert lease_sms(store) == []
    assert [message.recipient for message in steps.lease_messages_of(store, "EMAIL")] == ["ola@example.com"]


def test_a_message_goes_to_the_mobile_of_the_moment_of_the_lease_even_an_expired_one(
    store: Store, database: psycopg.Connection
) -> None:
    register(store, OLA)
    choose(store, OLA, DIGIPOST)
    write(store, OLA, lambda person: person.update_contact(NOW, {MOBILE: "+4741234567"}))
    database.execute("UPDATE person SET mobile_updated_time = now() - interval '10 years'")
    assert {message.kind: message.recipient for message in lease_sms(store)} == {
        "MAILBOX_CHOSEN": "+4741234567",
        "CONTACT_CHANGED": "+4791234567",
    }


def test_what_is_queued_when_the_person_is_deleted_is_suppressed(store: Store) -> None:
    register(store, OLA)
    choose(store, OLA, DIGIPOST)
    _delete(store)
    assert lease_sms(store) == []
    assert message_states(store) == [("SUPPRESSED", "NO_CONTACT")]


def test_what_is_queued_when_the_mobile_goes_is_told_by_email(store: Store) -> None:
    register(store, OLA)
    choose(store, OLA, DIGIPOST)
    _remove_mobile(store)
    assert [message.kind for message in lease_sms(store)] == ["CONTACT_CHANGED"]
    [moved] = steps.lease_messages_of(store, "EMAIL")
    assert (moved.kind, moved.recipient) == ("MAILBOX_CHOSEN", "ola@example.com")


@pytest.mark.parametrize("forget", [_delete, _remove_mobile])
def test_the_recipient_of_what_was_sent_is_erased_with_the_mobile(
    store: Store, leased: LeasedMessage, database: psycopg.Connection, forget: Callable[[Store], None]
) -> None:
    finish_sms(store, leased, SENT)
    assert _recipients(database) == ["+4791234567"]
    forget(store)
    for told in lease_sms(store):
        assert told.kind == "CONTACT_CHANGED"
        finish_sms(store, told, SENT)
    assert _recipients(database) == []
    assert message_states(store)[-1] == ("SENT", None)


@pytest.mark.parametrize("outcome", [SENT, TryLater(AT_ONCE, "HTTP_503"), Refused("HTTP_400")])
def test_the_recipient_stays_erased_after_a_deletion_during_the_lease(
    store: Store,
    leased: LeasedMessage,
    database: psycopg.Connection,
    outcome: Sent | TryLater | Refused,
) -> None:
    _delete(store)
    assert _recipients(database) == []
    finish_sms(store, leased, outcome)
    assert lease_sms(store) == []
    assert retry_sms(store, leased.id) == (0 if outcome == SENT else 1)
    assert lease_sms(store) == []
    assert _recipients(database) == []


def test_a_lease_that_races_with_the_deletion_keeps_no_recipient(
    store: Store, database: psycopg.Connection
) -> None:
    persons = steps.some_persons(40)
    for identifier in persons:
        register(store, identifier)
        choose(store, identifier, DIGIPOST)
    deleted = threading.Event()

    def delete_all() -> None:
        for identifier in persons:
            write(store, identifier, lambda person: person.delete(DeletionReason.OWN_CHOICE))
        deleted.set()

    def lease_on() -> None:
        while not deleted.is_set():
            lease_sms(store, duration=AT_ONCE)

    steps.together(delete_all, lease_on, lease_on)

    assert _recipients(database) == []
    lease_sms(store)
    assert message_states(store) == [("SUPPRESSED", "NO_CONTACT")] * len(persons)


def test_many_adapters_at_once_share_the_messages_without_one_going_to_two(store: Store) -> None:
    persons = steps.some_persons(30)
    for identifier in persons:
        register(store, identifier)
        choose(store, identifier, DIGIPOST)

    def lease_all() -> list[LeasedMessage]:
        found: list[LeasedMessage] = []
        while some := lease_sms(store, limit=3):
            found += some
        return found

    leased = [each for found in steps.together(*[lease_all] * 4) for each in found] + lease_all()
    assert sorted(str(each.identifier) for each in leased) == sorted(persons)
