"""Receipts that name the gateway's own id for a message: before the outcome, after it, and at once."""

import random
from collections import Counter
from datetime import timedelta

import psycopg
import pytest

from server.domain.outcome import Refused, Sent, TryLater
from server.store.message_outcomes import forget_early_receipts, record_receipt_by_gateway
from server.store.messages import LeasedMessage
from server.store.store import Store
from tests.store import steps
from tests.store.steps import (
    ADMINISTRATOR,
    AT_ONCE,
    DIGIPOST,
    OLA,
    choose,
    finish_sms,
    in_time,
    lease_sms,
    message_states,
    register,
)

SENT = Sent("smpp", "4711")


def receive(
    store: Store,
    failure: str | None = None,
    *,
    gateway_message_id: str = "4711",
    gateway: str = "smpp",
    channel: str = "SMS",
) -> None:
    store.write(
        ADMINISTRATOR,
        lambda transaction: record_receipt_by_gateway(
            transaction, channel, gateway, gateway_message_id, failure
        ),
        deadline=in_time(),
    )


def kept(database: psycopg.Connection) -> int:
    """How many receipts wait for their message."""
    [(count,)] = database.execute("SELECT count(*) FROM early_receipt").fetchall()
    return int(count)


@pytest.fixture
def leased(store: Store) -> LeasedMessage:
    """The message of Ola's choice of Digipost, leased."""
    register(store, OLA)
    choose(store, OLA, DIGIPOST)
    [message] = lease_sms(store)
    return message


@pytest.mark.parametrize("comes_first", ["receipt", "outcome"])
@pytest.mark.parametrize(
    ("failure", "state"), [(None, ("DELIVERED", None)), ("UNREACHABLE", ("FAILED", "UNREACHABLE"))]
)
def test_a_receipt_counts_whether_it_comes_before_the_outcome_or_after(
    store: Store,
    leased: LeasedMessage,
    database: psycopg.Connection,
    comes_first: str,
    failure: str | None,
    state: tuple[str, str | None],
) -> None:
    if comes_first == "receipt":
        receive(store, failure)
        assert message_states(store) == [("QUEUED", None)]
        assert kept(database) == 1
    finish_sms(store, leased, SENT)
    if comes_first == "outcome":
        receive(store, failure)
    assert message_states(store) == [state]
    assert kept(database) == 0
    times = database.execute("SELECT sent_time IS NULL, delivered_time IS NULL FROM message").fetchall()
    assert times == [(False, failure is not None)]


@pytest.mark.parametrize("failures", [(None, "UNREACHABLE"), ("UNREACHABLE", None)])
def test_of_two_early_receipts_the_first_counts(
    store: Store,
    leased: LeasedMessage,
    database: psycopg.Connection,
    failures: tuple[str | None, str | None],
) -> None:
    for failure in failures:
        receive(store, failure)
    finish_sms(store, leased, SENT)
    receive(store, failures[1])
    assert message_states(store) == [("DELIVERED", None) if failures[0] is None else ("FAILED", failures[0])]
    assert kept(database) == 0


@pytest.mark.parametrize("other", [{"gateway_message_id": "4712"}, {"gateway": "link"}, {"channel": "EMAIL"}])
def test_a_receipt_of_another_message_gateway_or_channel_does_not_count(
    store: Store, leased: LeasedMessage, database: psycopg.Connection, other: dict[str, str]
) -> None:
    receive(store, **other)
    finish_sms(store, leased, SENT)
    receive(store, **other)
    assert message_states(store) == [("SENT", None)]
    assert kept(database) == 1


def test_a_receipt_waits_through_attempts_that_came_to_nothing(
    store: Store, leased: LeasedMessage, database: psycopg.Connection
) -> None:
    receive(store)
    finish_sms(store, leased, TryLater(AT_ONCE, "HTTP_503"))
    assert message_states(store) == [("QUEUED", "HTTP_503")]
    [again] = lease_sms(store)
    finish_sms(store, again, SENT)
    assert message_states(store) == [("DELIVERED", None)]
    assert kept(database) == 0


def test_an_outcome_and_its_receipt_at_once_never_miss_each_other(
    store: Store, database: psycopg.Connection
) -> None:
    persons = steps.some_persons(60)
    for identifier in persons:
        register(store, identifier)
        choose(store, identifier, DIGIPOST)
    leased = lease_sms(store)
    assert len(leased) == len(persons)
    orders = [list(enumerate(leased)) for _ in range(2)]
    for seed, order in enumerate(orders):
        # Not in one order: else who is a little faster stays so.
        chunks = [order[start : start + 5] for start in range(0, len(order), 5)]
        for chunk in chunks:
            random.Random(seed).shuffle(chunk)
        order[:] = [each for chunk in chunks for each in chunk]

    def finish_all() -> None:
        for number, message in orders[0]:
            finish_sms(store, message, Sent("smpp", str(number)))

    def receive_all() -> None:
        for number, _ in orders[1]:
            receive(store, gateway_message_id=str(number))

    steps.together(finish_all, receive_all, receive_all)

    # A receipt that came again after its message was concluded finds it, and is not kept.
    assert Counter(message_states(store)) == {("DELIVERED", None): len(persons)}
    assert kept(database) == 0


def test_a_receipt_that_nobody_asks_for_is_kept_for_three_days_and_then_forgotten(
    store: Store, leased: LeasedMessage, database: psycopg.Connection
) -> None:
    receive(store)
    receive(store, gateway_message_id="4712")
    finish_sms(store, leased, Refused("HTTP_400"))

    def forget() -> int:
        return store.write(ADMINISTRATOR, forget_early_receipts, deadline=in_time())

    age = "UPDATE early_receipt SET received_time = now() - %s::interval WHERE gateway_message_id = '4711'"
    database.execute(age, (timedelta(days=3) - timedelta(minutes=5),))
    assert forget() == 0
    database.execute(age, (timedelta(days=3, seconds=1),))
    assert (forget(), kept(database)) == (1, 1)
