"""What became of a message: the adapter's word, the gateway's receipt, a retry."""

import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from server.domain.errors import Reason
from server.domain.outcome import Refused, Sent, TryLater
from server.store.message_outcomes import finish_message, record_receipt
from server.store.messages import LeasedMessage
from server.store.store import Store
from tests.store.steps import (
    ADMINISTRATOR,
    AT_ONCE,
    DIGIPOST,
    EBOKS,
    OLA,
    choose,
    finish_sms,
    in_time,
    lease_sms,
    message_states,
    messages,
    refusal_of,
    register,
    retry_sms,
)

SENT = Sent("link", "gateway-1")
IN_AN_HOUR = TryLater(timedelta(hours=1), "HTTP_503")


def _receipt(store: Store, message: LeasedMessage, failure: str | None, channel: str = "SMS") -> None:
    store.write(
        ADMINISTRATOR,
        lambda transaction: record_receipt(transaction, channel, message.receipt_token, failure),
        deadline=in_time(),
    )


@pytest.fixture
def leased(store: Store) -> LeasedMessage:
    """The message of Ola's choice of Digipost, leased."""
    register(store, OLA)
    choose(store, OLA, DIGIPOST)
    [message] = lease_sms(store)
    return message


def test_a_message_to_try_later_waits_and_counts(store: Store, leased: LeasedMessage) -> None:
    finish_sms(store, leased, IN_AN_HOUR)
    assert lease_sms(store) == []
    assert message_states(store) == [("QUEUED", "HTTP_503")]
    assert retry_sms(store, leased.id) == 1
    assert [message.failed_attempts for message in lease_sms(store)] == [0]


@pytest.mark.parametrize("outcome", [SENT, IN_AN_HOUR, Refused("HTTP_400")])
def test_only_the_holder_of_the_lease_finishes_a_message_and_only_once(
    store: Store, leased: LeasedMessage, outcome: Sent | TryLater | Refused
) -> None:
    def on_another_channel() -> None:
        store.write(
            ADMINISTRATOR,
            lambda each: finish_message(each, "EMAIL", leased.id, leased.lease_token, outcome),
            deadline=in_time(),
        )

    wrong = replace(leased, lease_token=uuid.uuid4())
    assert refusal_of(lambda: finish_sms(store, wrong, outcome)) is Reason.LEASE_LOST
    assert refusal_of(on_another_channel) is Reason.LEASE_LOST
    finish_sms(store, leased, outcome)
    assert refusal_of(lambda: finish_sms(store, leased, outcome)) is Reason.LEASE_LOST


def test_a_lease_that_ran_out_is_given_to_another(store: Store) -> None:
    register(store, OLA)
    choose(store, OLA, DIGIPOST)
    [first] = lease_sms(store, duration=AT_ONCE)
    [second] = lease_sms(store)
    assert refusal_of(lambda: finish_sms(store, first, SENT)) is Reason.LEASE_LOST
    finish_sms(store, second, SENT)
    assert second.receipt_token == first.receipt_token, "either gateway's receipt is of this message"


@pytest.mark.parametrize(
    ("failure", "state"), [(None, ("DELIVERED", None)), ("UNREACHABLE", ("FAILED", "UNREACHABLE"))]
)
@pytest.mark.parametrize("outcome", [SENT, IN_AN_HOUR, Refused("HTTP_400")])
def test_a_receipt_that_comes_before_the_finish_keeps_its_say(
    store: Store,
    leased: LeasedMessage,
    failure: str | None,
    state: tuple[str, str | None],
    outcome: Sent | TryLater | Refused,
) -> None:
    _receipt(store, leased, failure)
    finish_sms(store, leased, outcome)
    assert message_states(store) == [state]
    assert lease_sms(store) == []


@pytest.mark.parametrize("failures", [(None, "UNREACHABLE"), ("UNREACHABLE", None), ("A", "B")])
def test_the_first_final_receipt_counts(
    store: Store, leased: LeasedMessage, failures: tuple[str | None, str | None]
) -> None:
    finish_sms(store, leased, SENT)
    _receipt(store, leased, failures[0])
    first = messages(store)
    _receipt(store, leased, failures[1])
    assert messages(store) == first


def test_a_receipt_that_fits_no_message_of_the_channel_is_refused(
    store: Store, leased: LeasedMessage
) -> None:
    unknown = replace(leased, receipt_token=uuid.uuid4())
    assert refusal_of(lambda: _receipt(store, unknown, None)) is Reason.UNKNOWN_RECEIPT
    assert refusal_of(lambda: _receipt(store, leased, None, "EMAIL")) is Reason.UNKNOWN_RECEIPT
    assert message_states(store) == [("QUEUED", None)]


def test_a_sent_message_is_recorded_with_its_gateway_and_times(store: Store, leased: LeasedMessage) -> None:
    finish_sms(store, leased, SENT)
    _receipt(store, leased, None)
    [row] = messages(store)
    assert (row.state, row.gateway) == ("DELIVERED", "link")
    assert row.sent_time is not None
    assert row.delivered_time is not None
    assert row.created_time <= row.sent_time <= row.delivered_time


def test_a_retry_sends_what_failed_and_leaves_what_was_sent_or_superseded(store: Store) -> None:
    register(store, OLA)
    choose(store, OLA, EBOKS)
    choose(store, OLA, DIGIPOST)
    [failed] = lease_sms(store)
    finish_sms(store, failed, Refused("HTTP_400"))
    assert lease_sms(store) == []
    ids = [row.id for row in messages(store)]

    assert retry_sms(store, *ids) == 1

    [again] = lease_sms(store)
    finish_sms(store, again, SENT)
    assert (again.id, again.failed_attempts) == (failed.id, 0)
    assert retry_sms(store, *ids) == 0
    assert message_states(store) == [("SENT", None), ("SUPERSEDED", None)]
