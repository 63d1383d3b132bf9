"""Every scenario of the conformance suite fails on an adapter that is broken in its way."""

import contextlib
import hmac
import inspect
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import httpx
import pytest
from krr.v1 import delivery_service_pb2 as pb

from adapters.adapter import AccountState, Done, MailboxAdapter, Refused, TryLater
from tests.adapters import third_operator as adapter_module
from tests.adapters.conformance import AdapterConformance, Outcome
from tests.adapters.faulty_link import FaultyLink, faulty_link
from tests.adapters.sandbox import http
from tests.adapters.third_operator import ThirdOperatorAdapter
from tests.adapters.third_operator_sandbox import ThirdOperator, third_operator


class Broken:
    """A sound adapter with something wrong about it."""

    def __init__(self, sound: ThirdOperatorAdapter, url: str) -> None:
        self.deadline_seconds = sound.deadline_seconds
        self.sound = sound
        self.url = url

    def deliver(self, delivery: pb.Delivery) -> Outcome:
        return self.sound.deliver(delivery)

    def read(self, identifier: str) -> AccountState | TryLater:
        return self.sound.read(identifier)


class DoesNotSayHowLong(Broken):
    def __init__(self, sound: ThirdOperatorAdapter, url: str) -> None:
        super().__init__(sound, url)
        del self.deadline_seconds


class RemembersWhatIsDone(Broken):
    def __init__(self, sound: ThirdOperatorAdapter, url: str) -> None:
        super().__init__(sound, url)
        self._done: set[bool] = set()

    def deliver(self, delivery: pb.Delivery) -> Outcome:
        if delivery.receives_public_mail in self._done:
            return Done()
        outcome = super().deliver(delivery)
        if outcome == Done():
            self._done.add(delivery.receives_public_mail)
        return outcome


class KnowsOnOnly(Broken):
    def deliver(self, delivery: pb.Delivery) -> Outcome:
        return super().deliver(pb.Delivery(identifier=delivery.identifier, receives_public_mail=True))


class TakesNoForYes(Broken):
    def deliver(self, delivery: pb.Delivery) -> Outcome:
        outcome = super().deliver(delivery)
        return Done() if isinstance(outcome, Refused) else outcome


class TakesSilenceForYes(Broken):
    def deliver(self, delivery: pb.Delivery) -> Outcome:
        outcome = super().deliver(delivery)
        return Done() if isinstance(outcome, TryLater) else outcome


class GivesUp(Broken):
    def deliver(self, delivery: pb.Delivery) -> Outcome:
        outcome = super().deliver(delivery)
        return Refused(outcome.error_code) if isinstance(outcome, TryLater) else outcome


class OutlastsItsDeadline(Broken):
    def deliver(self, delivery: pb.Delivery) -> Outcome:
        outcome = super().deliver(delivery)
        if isinstance(outcome, TryLater):
            time.sleep(1.5)
        return outcome

    def read(self, identifier: str) -> AccountState | TryLater:
        outcome = super().read(identifier)
        if isinstance(outcome, TryLater):
            time.sleep(1.5)
        return outcome


class TakesTheFirstAnswerForAll(Broken):
    def __init__(self, sound: ThirdOperatorAdapter, url: str) -> None:
        super().__init__(sound, url)
        self._first: Outcome | None = None

    def deliver(self, delivery: pb.Delivery) -> Outcome:
        outcome = super().deliver(delivery)
        self._first = self._first or outcome
        return self._first


class TakesTheFirstReadForAll(Broken):
    def __init__(self, sound: ThirdOperatorAdapter, url: str) -> None:
        super().__init__(sound, url)
        self._first: AccountState | TryLater | None = None

    def read(self, identifier: str) -> AccountState | TryLater:
        outcome = super().read(identifier)
        self._first = self._first or outcome
        return self._first


class SwitchesOffWhatItReads(Broken):
    def read(self, identifier: str) -> AccountState | TryLater:
        outcome = super().read(identifier)
        self.sound.deliver(pb.Delivery(identifier=identifier, receives_public_mail=False))
        return outcome


class TakesSilenceForAbsence(Broken):
    def read(self, identifier: str) -> AccountState | TryLater:
        outcome = super().read(identifier)
        return AccountState(False, account_exists=False) if isinstance(outcome, TryLater) else outcome


class TakesAbsenceForSilence(Broken):
    def read(self, identifier: str) -> AccountState | TryLater:
        outcome = super().read(identifier)
        absent = isinstance(outcome, AccountState) and not outcome.account_exists
        return TryLater("NO_ACCOUNT") if absent else outcome


class DoesNotCheckSignatures(Broken):
    def deliver(self, delivery: pb.Delivery) -> Outcome:
        with _any_signature_is_right():
            return super().deliver(delivery)

    def read(self, identifier: str) -> AccountState | TryLater:
        with _any_signature_is_right():
            return super().read(identifier)


@contextlib.contextmanager
def _any_signature_is_right() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapter_module, "hmac", SimpleNamespace(new=hmac.new, compare_digest=lambda *_: True))
        yield


class TalksAboutPeople(Broken):
    def deliver(self, delivery: pb.Delivery) -> Outcome:
        print("delivering for", delivery.identifier)
        return super().deliver(delivery)

    def read(self, identifier: str) -> AccountState | TryLater:
        print("reading", identifier)
        return super().read(identifier)


class WritesPeopleIntoAddresses(Broken):
    def deliver(self, delivery: pb.Delivery) -> Outcome:
        outcome = super().deliver(delivery)
        with contextlib.suppress(httpx.HTTPError):
            http.get(f"{self.url}/people/{delivery.identifier}")
        return outcome

    def read(self, identifier: str) -> AccountState | TryLater:
        outcome = super().read(identifier)
        with contextlib.suppress(httpx.HTTPError):
            http.get(f"{self.url}/people/{identifier}")
        return outcome


BREAKS: dict[str, list[type[Broken]]] = {
    "test_a_delivery_that_is_repeated_leaves_the_account_as_wished": [RemembersWhatIsDone, KnowsOnOnly],
    "test_what_the_operators_own_staff_changed_is_put_right": [RemembersWhatIsDone],
    "test_it_says_how_long_an_attempt_may_take": [DoesNotSayHowLong],
    "test_switching_on_without_an_account_is_refused_for_the_citizen_to_see": [TakesNoForYes],
    "test_switching_off_without_an_account_is_done_already": [KnowsOnOnly],
    "test_the_operators_refusal_is_final_and_has_a_code": [TakesNoForYes],
    "test_an_account_is_opened_and_its_address_told_or_it_says_that_it_opens_none": [TakesNoForYes],
    "test_an_operator_that_is_not_there_is_tried_later": [GivesUp, TakesSilenceForYes],
    "test_a_request_that_is_cut_off_is_made_good_by_the_next_attempt": [GivesUp, TakesSilenceForYes],
    "test_an_answer_that_is_lost_is_made_good_by_the_next_attempt": [GivesUp, TakesSilenceForYes],
    "test_an_answer_by_somebody_before_the_operator_settles_nothing": [GivesUp, TakesSilenceForYes],
    "test_a_slow_answer_is_given_up_and_a_late_effect_of_it_undone": [
        OutlastsItsDeadline,
        RemembersWhatIsDone,
        GivesUp,
    ],
    "test_a_half_open_connection_is_given_up": [OutlastsItsDeadline, GivesUp],
    "test_an_answer_that_trickles_is_given_up": [OutlastsItsDeadline, GivesUp],
    "test_answers_out_of_order_reach_those_who_asked": [TakesTheFirstAnswerForAll],
    "test_an_adapter_that_the_operator_does_not_let_in_refuses_nobody": [GivesUp, TakesSilenceForYes],
    "test_an_answer_that_was_changed_on_its_way_is_not_believed": [DoesNotCheckSignatures],
    "test_an_operator_whose_clock_is_off_refuses_nobody": [GivesUp, TakesSilenceForYes],
    "test_nothing_personal_reaches_logs_spans_or_addresses": [TalksAboutPeople, WritesPeopleIntoAddresses],
    "test_what_is_read_is_what_stands_there_and_stays_so": [TakesTheFirstReadForAll, SwitchesOffWhatItReads],
    "test_a_person_without_account_is_read_as_one": [TakesTheFirstReadForAll, TakesAbsenceForSilence],
    "test_a_read_that_is_spoilt_says_nothing_about_the_person": [
        TakesSilenceForAbsence,
        TakesTheFirstReadForAll,
    ],
    "test_a_read_that_was_changed_on_its_way_is_not_believed": [DoesNotCheckSignatures],
    "test_a_read_at_an_operator_that_is_not_there_is_tried_later": [TakesSilenceForAbsence],
    "test_a_read_that_is_not_answered_is_given_up": [OutlastsItsDeadline, TakesSilenceForAbsence],
    "test_reads_out_of_order_are_about_whom_they_asked_about": [TakesTheFirstReadForAll],
    "test_an_adapter_that_the_operator_does_not_let_in_reads_nothing": [TakesSilenceForAbsence],
    "test_an_operator_whose_clock_is_off_loses_nobodys_account": [TakesSilenceForAbsence],
    "test_nothing_personal_of_a_read_reaches_logs_spans_or_addresses": [
        TalksAboutPeople,
        WritesPeopleIntoAddresses,
    ],
}


class Impatient(AdapterConformance):
    patience = 0.5


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThirdOperator]:
    with third_operator(tmp_path_factory.mktemp("third")) as operator:
        yield operator


@pytest.fixture(scope="module")
def link(running: ThirdOperator) -> Iterator[FaultyLink]:
    with faulty_link() as link:
        link.operator_url = running.url
        yield link


@pytest.fixture
def operator(running: ThirdOperator) -> ThirdOperator:
    running.begin_anew()
    return running


def test_every_scenario_has_an_adapter_that_fails_it() -> None:
    assert set(BREAKS) == {name for name in dir(AdapterConformance) if name.startswith("test_")}


@pytest.mark.parametrize(
    ("scenario", "broken"), [(scenario, broken) for scenario, all_of in BREAKS.items() for broken in all_of]
)
def test_a_broken_adapter_is_caught(
    scenario: str,
    broken: type[Broken],
    operator: ThirdOperator,
    link: FaultyLink,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def breaking(make: Callable[..., ThirdOperatorAdapter]) -> Callable[..., MailboxAdapter]:
        return lambda url, *others: broken(make(url, *others), url)

    for way in ("adapter_for", "strangers_adapter"):
        monkeypatch.setattr(operator, way, breaking(getattr(operator, way)))
    run = getattr(Impatient(), scenario)
    given = {"operator": operator, "link": link, "status": 409, "fault": "cut"}
    arguments = {
        name: given[name] if name in given else request.getfixturevalue(name)
        for name in inspect.signature(run).parameters
    }
    try:
        with pytest.raises(AssertionError) as caught:
            run(**arguments)
    finally:
        link.heal()
    # Not for want of a sound delivery or read to compare with.
    sound = {"_sound_delivery", "_requests_of_a_read"}
    assert not sound & {entry.name for entry in caught.traceback}
