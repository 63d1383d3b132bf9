"""Two SMS gateways in order: what goes to the second, and what never does."""

import pytest
from krr.v1 import delivery_service_pb2 as pb
from structlog.testing import capture_logs

from adapters.adapter import Misconfigured, Refused, Sent, TryLater, Unsure
from adapters.sms.fallback import Fallback
from tests.adapters.link_sandbox import message

FIRST, SECOND = Sent("FIRST", "1"), Sent("SECOND", "2")

# More than the failures in a row after which a breaker opens.
MANY = 8


class Scripted:
    """A gateway that always answers the same."""

    deadline_seconds = 2.0

    def __init__(self, outcome: Sent | TryLater | Refused) -> None:
        self.outcome = outcome
        self.asked = 0

    def send(self, _message: pb.Message) -> Sent | TryLater | Refused:
        self.asked += 1
        return self.outcome


def fallback(*gateways: Scripted, probe_seconds: float = 300) -> Fallback:
    return Fallback({f"gateway-{number}": each for number, each in enumerate(gateways)}, probe_seconds)


@pytest.mark.parametrize(
    "outcome", [TryLater("UNREACHABLE"), TryLater("SMPP_58"), Misconfigured("SMPP_BIND_0E")]
)
def test_what_the_first_surely_did_not_take_goes_to_the_second_at_once(outcome: TryLater) -> None:
    first, second = Scripted(outcome), Scripted(SECOND)
    assert fallback(first, second).send(message()) == SECOND
    assert (first.asked, second.asked) == (1, 1)


@pytest.mark.parametrize(
    "outcome",
    [
        FIRST,
        Refused("SMPP_0B"),
        Unsure("TIMEOUT"),
        Unsure("ANSWER_LOST"),
        TryLater("HTTP_502", wait_seconds=10),
    ],
)
def test_what_the_first_took_or_may_have_taken_never_goes_to_the_second(
    outcome: Sent | TryLater | Refused,
) -> None:
    first, second = Scripted(outcome), Scripted(SECOND)
    assert fallback(first, second).send(message()) == outcome
    assert second.asked == 0


def test_a_gateway_that_is_away_is_passed_over_after_five_failures() -> None:
    first, second = Scripted(TryLater("UNREACHABLE")), Scripted(SECOND)
    both = fallback(first, second)
    with capture_logs() as logs:
        assert [both.send(message()) for _ in range(MANY)] == [SECOND] * MANY
    assert first.asked == 5
    assert [(log["event"], log["gateway"]) for log in logs] == [("gateway seems to be away", "gateway-0")]


def test_a_gateway_whose_answers_get_lost_is_passed_over_too_and_the_passed_message_is_not_unsure() -> None:
    first, second = Scripted(Unsure("TIMEOUT")), Scripted(TryLater("HTTP_429"))
    both = fallback(first, second)
    outcomes = [both.send(message()) for _ in range(MANY)]
    assert outcomes == [Unsure("TIMEOUT")] * 5 + [TryLater("TIMEOUT")] * (MANY - 5)
    assert (first.asked, second.asked) == (5, MANY - 5)


def test_a_misconfigured_gateway_is_told_once_and_asked_once_while_the_other_serves() -> None:
    first, second = Scripted(Misconfigured("SMPP_BIND_0E")), Scripted(SECOND)
    both = fallback(first, second)
    with capture_logs() as logs:
        assert [both.send(message()) for _ in range(MANY)] == [SECOND] * MANY
    assert first.asked == 1
    assert [(log["event"], log["log_level"]) for log in logs] == [("gateway misconfigured", "error")]


def test_a_gateway_that_is_put_right_is_asked_first_again() -> None:
    first, second = Scripted(Misconfigured("SMPP_BIND_0E")), Scripted(SECOND)
    both = fallback(first, second, probe_seconds=0)
    assert both.send(message()) == SECOND
    first.outcome = FIRST
    assert both.send(message()) == FIRST


def test_where_none_takes_it_the_outcome_is_of_the_first_that_is_not_misconfigured() -> None:
    away, throttled = Scripted(TryLater("UNREACHABLE")), Scripted(TryLater("SMPP_58"))
    wrong, also_wrong = Scripted(Misconfigured("SMPP_BIND_0E")), Scripted(Misconfigured("TOKEN_HTTP_401"))
    assert fallback(away, throttled).send(message()) == away.outcome
    assert fallback(wrong, throttled).send(message()) == throttled.outcome
    assert fallback(wrong, also_wrong).send(message()) == wrong.outcome


def test_a_gateway_that_fails_without_an_outcome_leaves_the_message_to_nobody_else() -> None:
    class Faulty(Scripted):
        def send(self, _message: pb.Message) -> Sent | TryLater | Refused:
            raise RuntimeError

    second = Scripted(SECOND)
    with pytest.raises(RuntimeError):
        fallback(Faulty(FIRST), second).send(message())
    assert second.asked == 0


def test_an_attempt_takes_as_long_as_all_gateways_together() -> None:
    assert fallback(Scripted(FIRST), Scripted(SECOND)).deadline_seconds == 4
