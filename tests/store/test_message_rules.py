"""The rules that the lease of messages keeps: limits, hours, expiry, channels; and who knows what went."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from server.domain.contact import ContactKind
from server.domain.identifiers import PersonIdentifier
from server.domain.message import Channel, MessageKind, NewMessage
from server.domain.outcome import Refused, Sent, Unsure
from server.domain.person import Language
from server.store.message_outcomes import record_receipt
from server.store.message_writes import Addressed, write_messages
from server.store.messages import LeasedMessage, lease_messages
from server.store.store import Store
from server.store.transaction import Transaction
from tests.store.steps import (
    A_MINUTE,
    ADMINISTRATOR,
    AT_ONCE,
    DIGIPOST,
    EBOKS,
    MOBILE,
    NOW,
    OLA,
    choose,
    finish_sms,
    in_time,
    message_states,
    register,
    retry_sms,
)
from tests.store.steps import write as write_verb

SENT = Sent("link", "gateway-1")
UNSURE = Unsure(AT_ONCE, "TIMEOUT")
CHOICE, CODE, CHANGED, REMINDER = list(MessageKind)[:4]


def a_message(kind: MessageKind, channel: Channel = Channel.SMS, **others: Any) -> NewMessage:
    return NewMessage(kind=kind, channel=channel, language=Language.NB, **others)


def write(store: Store, *messages: NewMessage, identifier: PersonIdentifier | None = OLA) -> None:
    """Write messages to the person, or to an organisation."""

    def do(transaction: Transaction) -> None:
        person_id = None
        if identifier:
            transaction.person(identifier)
            person_id = transaction.row_id(identifier)
        write_messages(transaction.run, [Addressed(person_id, message) for message in messages])

    store.write(ADMINISTRATOR, do, deadline=in_time())


def lease(
    store: Store, channel: str = "SMS", *, quiet: bool = False, most_in_a_day: int = 1000
) -> list[LeasedMessage]:
    return store.write(
        ADMINISTRATOR,
        lambda transaction: lease_messages(
            transaction, channel, limit=100, duration=A_MINUTE, quiet=quiet, most_in_a_day=most_in_a_day
        ),
        deadline=in_time(),
    )


def kinds(leased: Sequence[LeasedMessage]) -> list[str]:
    return [message.kind for message in leased]


@pytest.fixture(autouse=True)
def ola(store: Store) -> None:
    register(store, OLA)


def test_a_person_is_sent_so_many_messages_in_a_day_and_codes_besides(
    store: Store, database: psycopg.Connection
) -> None:
    for number in range(3):
        write(store, a_message(CHANGED, recipient="+4791234567"))
        [message] = lease(store, most_in_a_day=3)
        finish_sms(store, message, Sent("link", str(number)))
    write(store, a_message(CHANGED, recipient="+4791234567"), a_message(CODE, recipient="+4791234567"))

    assert kinds(lease(store, most_in_a_day=3)) == [CODE]

    assert message_states(store)[1] == ("SUPPRESSED", "DAILY_LIMIT")
    database.execute("UPDATE message SET sent_time = sent_time - interval '1 day'")
    write(store, a_message(CHANGED, recipient="+4791234567"))
    assert kinds(lease(store, most_in_a_day=3)) == [CHANGED]


def test_what_was_sent_to_one_person_is_no_limit_for_another(store: Store) -> None:
    kari = PersonIdentifier("06828498159")
    register(store, kari)
    write(store, a_message(CHANGED, recipient="+4791234567"))
    [message] = lease(store, most_in_a_day=1)
    finish_sms(store, message, SENT)
    write(store, a_message(CHANGED, recipient="+4791234567"), identifier=kari)
    assert kinds(lease(store, most_in_a_day=1)) == [CHANGED]


def test_an_organisation_is_sent_its_notices_without_a_daily_limit(store: Store) -> None:
    notice = a_message(
        MessageKind.SHARED_CONTACT_NOTICE, Channel.EMAIL, recipient="post@example.com", case_count=3
    )
    write(store, notice, notice, identifier=None)
    leased = lease(store, "EMAIL", most_in_a_day=1)
    assert [(each.recipient, each.case_count, each.identifier) for each in leased] == [
        ("post@example.com", 3, None)
    ] * 2


@pytest.mark.parametrize("kind", [CHOICE, CODE, CHANGED, REMINDER])
def test_what_could_not_go_in_its_time_ends_unsent_and_forgets_whom_it_was_to(
    store: Store, database: psycopg.Connection, kind: MessageKind
) -> None:
    write(store, a_message(kind, recipient="+4791234567"))
    database.execute("UPDATE message SET expires_time = now()")
    assert lease(store) == []
    assert message_states(store) == [("SUPPRESSED", "EXPIRED")]
    assert database.execute("SELECT recipient FROM message").fetchall() == [(None,)]


def test_a_code_is_not_sent_after_its_ten_minutes_and_a_retry_gives_others_their_time_anew(
    store: Store, database: psycopg.Connection
) -> None:
    write(store, a_message(CODE, recipient="+4791234567"), a_message(CHOICE, operator=DIGIPOST))
    lives = database.execute("SELECT kind, expires_time - created_time FROM message").fetchall()
    assert dict(lives) == {"VERIFICATION_CODE": timedelta(minutes=10), "MAILBOX_CHOSEN": timedelta(days=3)}
    database.execute(
        "UPDATE message SET expires_time = now(), created_time = created_time - interval '3 days'"
    )
    assert lease(store) == []

    ids = [row[0] for row in database.execute("SELECT id FROM message").fetchall()]
    assert retry_sms(store, *ids) == 1
    assert kinds(lease(store)) == [CHOICE]


def test_by_night_only_what_somebody_waits_for_is_leased_and_by_day_the_rest(store: Store) -> None:
    write(
        store,
        a_message(REMINDER, contact_kind=MOBILE),
        a_message(CHANGED, recipient="+4791234567"),
        a_message(CODE, recipient="+4791234567"),
        a_message(CHOICE, operator=DIGIPOST),
    )
    assert sorted(kinds(lease(store, quiet=True))) == [CHANGED, CHOICE, CODE]
    assert lease(store, quiet=True) == []
    assert kinds(lease(store)) == [REMINDER]


@pytest.mark.parametrize(
    ("lost", "channel", "other", "recipient"),
    [
        (ContactKind.MOBILE, Channel.SMS, Channel.EMAIL, "ola@example.com"),
        (ContactKind.EMAIL, Channel.EMAIL, Channel.SMS, "+4791234567"),
    ],
)
def test_what_can_go_on_the_other_channel_only_moves_there_once(
    store: Store, lost: ContactKind, channel: Channel, other: Channel, recipient: str
) -> None:
    write(store, a_message(CHOICE, channel, operator=DIGIPOST))
    write_verb(store, OLA, lambda person: person.update_contact(NOW, {lost: None}))

    assert CHOICE not in kinds(lease(store, channel))

    [moved] = lease(store, other)
    assert (moved.kind, moved.recipient) == (CHOICE, recipient)
    assert lease(store, channel) == []


def test_a_later_message_takes_the_place_of_one_about_the_same_contact_point_only(store: Store) -> None:
    write(store, a_message(REMINDER, contact_kind=MOBILE))
    write(store, a_message(REMINDER, Channel.EMAIL, contact_kind=ContactKind.EMAIL))
    write(store, a_message(REMINDER, contact_kind=MOBILE))
    assert kinds(lease(store)) == [REMINDER]
    assert kinds(lease(store, "EMAIL")) == [REMINDER]
    assert message_states(store) == [("QUEUED", None), ("QUEUED", None), ("SUPERSEDED", None)]


@pytest.mark.parametrize("number", ["+870773111632", "+881612345678", "+979123456789", "+4782012345"])
def test_a_number_that_no_citizen_can_have_is_never_called(
    store: Store, database: psycopg.Connection, number: str
) -> None:
    # It came before such numbers were refused, or past the register.
    database.execute("UPDATE person SET mobile = %s", (number,))
    choose(store, OLA, EBOKS)
    write(store, a_message(CHANGED, recipient=number))
    assert lease(store) == []
    assert message_states(store) == [("SUPPRESSED", "NUMBER_NOT_ALLOWED")] * 2


def receive(store: Store, message: LeasedMessage, failure: str | None) -> None:
    store.write(
        ADMINISTRATOR,
        lambda transaction: record_receipt(transaction, "SMS", message.receipt_token, failure),
        deadline=in_time(),
    )


def test_what_nobody_knows_whether_it_went_is_tried_once_more_and_then_given_up(store: Store) -> None:
    choose(store, OLA, DIGIPOST)
    [first] = lease(store)
    finish_sms(store, first, UNSURE)
    assert message_states(store) == [("QUEUED", "TIMEOUT")]
    [second] = lease(store)
    assert (second.id, second.failed_attempts) == (first.id, 1)
    finish_sms(store, second, UNSURE)
    assert message_states(store) == [("FAILED", "TIMEOUT")]
    assert lease(store) == []


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_receipt_tells_that_what_was_unsure_arrived_after_all(store: Store, attempts: int) -> None:
    choose(store, OLA, DIGIPOST)
    for _ in range(attempts):
        [message] = lease(store)
        finish_sms(store, message, UNSURE)
    receive(store, message, None)
    assert message_states(store) == [("DELIVERED", None)]
    assert lease(store) == []
    receive(store, message, "UNREACHABLE")
    assert message_states(store) == [("DELIVERED", None)]


def test_a_receipt_does_not_bring_back_what_the_gateway_refused(store: Store) -> None:
    choose(store, OLA, DIGIPOST)
    [message] = lease(store)
    finish_sms(store, message, Refused("HTTP_400"))
    receive(store, message, None)
    assert message_states(store) == [("FAILED", "HTTP_400")]


def test_who_was_unsure_once_and_is_retried_by_staff_has_two_attempts_again(store: Store) -> None:
    choose(store, OLA, DIGIPOST)
    for _ in range(2):
        [message] = lease(store)
        finish_sms(store, message, UNSURE)
    assert retry_sms(store, message.id) == 1
    [again] = lease(store)
    finish_sms(store, again, UNSURE)
    assert message_states(store) == [("QUEUED", "TIMEOUT")]
