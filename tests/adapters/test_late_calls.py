"""A call that was given up and takes effect after the citizen has switched again."""

import time

import pytest
from krr.v1 import delivery_service_pb2 as pb
from krr_client import connect

from adapters import late_calls
from adapters.adapter import Done, Misconfigured, Refused, TryLater
from adapters.late_calls import LateCalls, Unsettled
from adapters.runner import Runner
from adapters.work import mailbox_work
from tests.adapters.digipost_sandbox import Digipost
from tests.adapters.eboks_sandbox import EBoks
from tests.adapters.fake_register import FakeRegister, eventually, in_thread, serving
from tests.adapters.sandbox import WITHOUT_ACCOUNT, wish


class Clock:
    """The monotonic clock, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Operator:
    """Answers as told."""

    def __init__(self) -> None:
        self.outcome: Done | TryLater | Refused | Exception = Done()

    def deliver(self, _delivery: pb.Delivery) -> Done | TryLater | Refused:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved_by_hand = Clock()
    monkeypatch.setattr(late_calls, "time", moved_by_hand)
    return moved_by_hand


@pytest.mark.parametrize(
    "given_up", ["TIMEOUT", "ANSWER_LOST", "HTTP_504", "READ_BACK_DIFFERS", ValueError()]
)
def test_off_is_not_done_while_an_on_that_was_given_up_may_still_come(
    clock: Clock, given_up: str | Exception
) -> None:
    operator = Operator()
    late = LateCalls(operator, seconds=60)
    operator.outcome = TryLater(given_up) if isinstance(given_up, str) else given_up
    try:
        late.deliver(wish(True))
    except ValueError:
        assert not isinstance(given_up, str)
    operator.outcome = Done()
    clock.now += 10
    assert late.deliver(wish(False)) == Unsettled(settled_in=50)
    assert late.deliver(wish(False, WITHOUT_ACCOUNT)) == Done()
    assert late.deliver(wish(True)) == Done()
    clock.now += 50
    assert late.deliver(wish(False)) == Done()


@pytest.mark.parametrize(
    "outcome", [Done(), Refused("NO_ACCOUNT"), TryLater("UNREACHABLE"), TryLater("OUT_OF_TIME")]
)
def test_what_was_answered_or_never_sent_does_not_come_late(
    clock: Clock, outcome: Done | TryLater | Refused
) -> None:
    operator = Operator()
    late = LateCalls(operator, seconds=60)
    operator.outcome = outcome
    late.deliver(wish(True))
    operator.outcome = Done()
    assert late.deliver(wish(False)) == Done()


def test_each_wish_settles_by_itself(clock: Clock) -> None:
    operator = Operator()
    late = LateCalls(operator, seconds=60)
    operator.outcome = TryLater("TIMEOUT")
    late.deliver(wish(True))
    clock.now += 30
    late.deliver(wish(False))
    operator.outcome = Done()
    assert late.deliver(wish(False)) == Unsettled(settled_in=30)
    assert late.deliver(wish(True)) == Unsettled(settled_in=60)


def test_a_refusal_is_passed_on_though_something_may_come_late(clock: Clock) -> None:
    operator = Operator()
    late = LateCalls(operator, seconds=60)
    operator.outcome = TryLater("TIMEOUT")
    late.deliver(wish(True))
    operator.outcome = Misconfigured("REVOKED_CERTIFICATE")
    assert late.deliver(wish(False)) == Misconfigured("REVOKED_CERTIFICATE")


@pytest.mark.parametrize("on", [True, False])
def test_what_a_killed_adapter_had_sent_may_come_after_its_lease_ran_out(clock: Clock, on: bool) -> None:
    leased_again = wish(on)
    leased_again.earlier_lease_ran_out = True
    late = LateCalls(Operator(), seconds=60)
    assert late.deliver(leased_again) == Unsettled(settled_in=60)
    clock.now += 20
    assert late.deliver(wish(on)) == Unsettled(settled_in=40)
    assert late.deliver(wish(not on)) == Unsettled(settled_in=40)
    clock.now += 40
    assert late.deliver(wish(on)) == Done()


def test_what_has_settled_is_forgotten(clock: Clock) -> None:
    operator = Operator()
    late = LateCalls(operator, seconds=60)
    operator.outcome = TryLater("TIMEOUT")
    for number in range(100):
        late.deliver(wish(True, f"{number:011}"))
        clock.now += 10
    assert len(late._settled_at) <= 7


@pytest.mark.parametrize("name", ["digipost", "eboks"])
@pytest.mark.parametrize("killed", [False, True])
def test_an_operator_whose_late_call_switched_it_on_is_switched_off_again(
    name: str, killed: bool, request: pytest.FixtureRequest
) -> None:
    sandbox: Digipost | EBoks = request.getfixturevalue(name)
    register = FakeRegister()
    with (
        serving(register) as port,
        connect(f"127.0.0.1:{port}", "Development adapter/test") as channel,
        in_thread(
            Runner(
                mailbox_work(name, sandbox.adapter_for(sandbox.url, 0.5), channel, 30, settle_seconds=1.5)
            ).run
        ),
    ):
        off = wish(False)
        if killed:
            # The attempt that asked for on was another process's.
            off.earlier_lease_ran_out = True
        else:
            sandbox.behave("slow", 1.0)
            register.deliveries = [wish(True)]
            eventually(lambda: bool(register.finished))
            sandbox.behave("normal")
            register.finished.clear()
        register.deliveries = [off]
        eventually(lambda: bool(register.finished))
        # Only now the operator does what it was asked for at first.
        sandbox.seed(receives=True)
        unsettled = register.finished[0].try_later
        assert unsettled.error_code == "EARLIER_CALL_UNSETTLED"
        time.sleep(unsettled.delay.ToMilliseconds() / 1000)
        register.deliveries = [wish(False)]
        eventually(lambda: len(register.finished) == 2)
    assert register.finished[1].HasField("done")
    assert not sandbox.receives_public_mail()
