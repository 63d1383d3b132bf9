"""What every mailbox operator's adapter must bear: a suite to be run on each of them.

    class TestMyOperator(AdapterConformance):
        @pytest.fixture
        def operator(self) -> Iterator[Operator]:
            with my_operators_sandbox() as operator:
                yield operator

Faults are made between the adapter and the operator's sandbox, at each request of a delivery
in turn, so the sandbox needs no switches of its own.
"""

import logging
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from adapters.adapter import Done, Refused, TryLater
from tests.adapters import faulty_link as faults
from tests.adapters.faulty_link import Fault, FaultyLink, faulty_link
from tests.adapters.operator import LONG, SHORT, Operator
from tests.adapters.reading_conformance import ReadingConformance
from tests.adapters.sandbox import (
    NOBODY_LISTENS,
    PERSON,
    WITHOUT_ACCOUNT,
    trickling,
    wish,
    wish_for_account,
)

__all__ = ["AdapterConformance", "Operator", "Outcome"]

Outcome = Done | TryLater | Refused


class AdapterConformance(ReadingConformance):
    """The suite. A subclass names the operator by a fixture.

    patience: seconds that an attempt may take beyond its deadline, on a busy machine.
    """

    patience = 5.0

    @pytest.fixture
    def operator(self) -> Operator:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def any_link(cls) -> Iterator[FaultyLink]:
        with faulty_link() as link:
            yield link

    @pytest.fixture
    def link(self, operator: Operator, any_link: FaultyLink) -> Iterator[FaultyLink]:
        any_link.operator_url = operator.url
        yield any_link
        any_link.heal()

    # --- the wish, and nothing but the wish

    def test_a_delivery_that_is_repeated_leaves_the_account_as_wished(self, operator: Operator) -> None:
        adapter = operator.adapter_for(operator.url, LONG)
        for wanted in (True, True, False, False, True):
            assert adapter.deliver(wish(wanted)) == Done()
            assert operator.receives_public_mail() == wanted

    def test_what_the_operators_own_staff_changed_is_put_right(self, operator: Operator) -> None:
        adapter = operator.adapter_for(operator.url, LONG)
        for wanted in (True, False):
            assert adapter.deliver(wish(wanted)) == Done()
            operator.seed(receives=not wanted)
            assert adapter.deliver(wish(wanted)) == Done()
            assert operator.receives_public_mail() == wanted

    def test_it_says_how_long_an_attempt_may_take(self, operator: Operator) -> None:
        assert getattr(operator.adapter_for(operator.url, LONG), "deadline_seconds", None) == LONG

    # --- refusals

    def test_switching_on_without_an_account_is_refused_for_the_citizen_to_see(
        self, operator: Operator
    ) -> None:
        outcome = operator.adapter_for(operator.url, LONG).deliver(wish(True, WITHOUT_ACCOUNT))
        assert outcome == Refused("NO_ACCOUNT")

    def test_switching_off_without_an_account_is_done_already(self, operator: Operator) -> None:
        assert operator.adapter_for(operator.url, LONG).deliver(wish(False, WITHOUT_ACCOUNT)) == Done()

    def test_an_account_is_opened_and_its_address_told_or_it_says_that_it_opens_none(
        self, operator: Operator
    ) -> None:
        adapter = operator.adapter_for(operator.url, LONG)
        # PERSON has an account already: that one's address, and nothing is switched.
        outcomes = [adapter.deliver(wish_for_account(PERSON)) for _ in range(2)]
        assert not operator.receives_public_mail()
        if outcomes[0] == Refused("ACCOUNT_NOT_OPENED"):
            assert outcomes == [Refused("ACCOUNT_NOT_OPENED")] * 2
        else:
            assert isinstance(outcomes[0], Done)
            assert outcomes[0].mailbox_address
            assert outcomes[0] == outcomes[1]

    def test_the_operators_refusal_is_final_and_has_a_code(self, operator: Operator) -> None:
        adapter = operator.adapter_for(operator.url, LONG)
        with operator.refusing():
            outcome = adapter.deliver(wish(True))
        assert isinstance(outcome, Refused)
        assert re.fullmatch(r"(?!.*[0-9]{6})[A-Z][A-Z0-9_]{0,63}", outcome.error_code)
        assert not operator.receives_public_mail()

    # --- outages

    def test_an_operator_that_is_not_there_is_tried_later(self, operator: Operator) -> None:
        outcome = operator.adapter_for(f"http://{NOBODY_LISTENS}", LONG).deliver(wish(True))
        assert isinstance(outcome, TryLater)

    def test_a_request_that_is_cut_off_is_made_good_by_the_next_attempt(
        self, operator: Operator, link: FaultyLink
    ) -> None:
        _spoil_each_request(operator, link, faults.cut)

    def test_an_answer_that_is_lost_is_made_good_by_the_next_attempt(
        self, operator: Operator, link: FaultyLink
    ) -> None:
        _spoil_each_request(operator, link, faults.lose_answer)

    @pytest.mark.parametrize("status", [200, 204, 403, 404, 409, 503])
    def test_an_answer_by_somebody_before_the_operator_settles_nothing(
        self, operator: Operator, link: FaultyLink, status: int
    ) -> None:
        _spoil_each_request(operator, link, faults.answer(status, b"" if status == 204 else b"<html>busy"))

    # --- slowness

    def test_a_slow_answer_is_given_up_and_a_late_effect_of_it_undone(
        self, operator: Operator, link: FaultyLink
    ) -> None:
        sound = _sound_delivery(operator, link)
        for position in range(sound.requests):
            operator.begin_anew()
            link.spoil(position, faults.come_late)
            self._is_given_up(operator, link.url, sound)
            # The citizen has thought better of it; then the request of before arrives.
            adapter = operator.adapter_for(operator.url, LONG)
            assert adapter.deliver(wish(False)) == Done()
            link.heal()
            assert adapter.deliver(wish(False)) == Done()
            assert not operator.receives_public_mail()

    def test_a_half_open_connection_is_given_up(self, operator: Operator, link: FaultyLink) -> None:
        sound = _sound_delivery(operator, link)
        for position in range(sound.requests):
            operator.begin_anew()
            link.spoil(position, faults.half_open)
            self._is_given_up(operator, link.url, sound)
            link.heal()
        with socket.create_server(("127.0.0.1", 0)) as silent:
            self._is_given_up(operator, "http://{}:{}".format(*silent.getsockname()), sound)

    def test_an_answer_that_trickles_is_given_up(self, operator: Operator, link: FaultyLink) -> None:
        sound = _sound_delivery(operator, link)
        with trickling() as trickle:
            self._is_given_up(operator, trickle.url, sound)

    def test_answers_out_of_order_reach_those_who_asked(self, operator: Operator, link: FaultyLink) -> None:
        for position in range(_sound_delivery(operator, link).requests):
            operator.begin_anew()
            adapter = operator.adapter_for(link.url, LONG)
            link.spoil(position, faults.come_late)
            with ThreadPoolExecutor(1) as pool:
                overtaken = pool.submit(adapter.deliver, wish(True))
                try:
                    link.wait_until_spoilt()
                    assert adapter.deliver(wish(True, WITHOUT_ACCOUNT)) == Refused("NO_ACCOUNT")
                    assert not overtaken.done()
                finally:
                    link.heal()
                assert overtaken.result(LONG) == Done()
            assert operator.receives_public_mail()

    # --- who is who, and when

    def test_an_adapter_that_the_operator_does_not_let_in_refuses_nobody(self, operator: Operator) -> None:
        stranger = operator.strangers_adapter(operator.url)
        for identifier in (PERSON, WITHOUT_ACCOUNT):
            assert isinstance(stranger.deliver(wish(True, identifier)), TryLater)
        assert not operator.receives_public_mail()

    def test_an_answer_that_was_changed_on_its_way_is_not_believed(
        self, operator: Operator, link: FaultyLink
    ) -> None:
        if operator.signed_from is None:
            pytest.skip("its answers are not signed: that is for TLS to see")
        for position in range(operator.signed_from, _sound_delivery(operator, link).requests):
            operator.begin_anew()
            link.spoil(position, faults.alter)
            adapter = operator.adapter_for(link.url, LONG)
            assert isinstance(adapter.deliver(wish(True)), TryLater)
            link.heal()
            assert adapter.deliver(wish(True)) == Done()

    def test_an_operator_whose_clock_is_off_refuses_nobody(self, operator: Operator) -> None:
        adapter = operator.adapter_for(operator.url, LONG)
        with operator.clock_off():
            _assert_honest(adapter.deliver(wish(True)), operator)
        assert adapter.deliver(wish(True)) == Done()
        assert operator.receives_public_mail()

    # --- what nobody may see

    def test_nothing_personal_reaches_logs_spans_or_addresses(
        self,
        operator: Operator,
        link: FaultyLink,
        spans: InMemorySpanExporter,
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        caplog.set_level(logging.DEBUG)
        targets = []
        for fault in (faults.lose_answer, faults.answer(403), faults.alter):
            for position in range(_sound_delivery(operator, link).requests):
                operator.begin_anew()
                link.spoil(position, fault)
                adapter = operator.adapter_for(link.url, LONG)
                for identifier in (PERSON, WITHOUT_ACCOUNT):
                    adapter.deliver(wish(True, identifier))
                targets += link.targets
                link.heal()
        with operator.refusing():
            adapter.deliver(wish(True))
        output = capfd.readouterr()
        seen = [caplog.text, output.out, output.err]
        seen += [span.to_json() for span in spans.get_finished_spans()]
        if not operator.identity_in_addresses:
            seen += targets
        for identifier in (PERSON, WITHOUT_ACCOUNT):
            assert not [each for each in seen if identifier in each]

    def _is_given_up(self, operator: Operator, url: str, sound: "_Sound") -> None:
        deadline = max(SHORT, 10 * sound.seconds)
        adapter = operator.adapter_for(url, deadline)
        began = time.monotonic()
        outcome = adapter.deliver(wish(True))
        assert time.monotonic() - began < deadline + self.patience
        assert isinstance(outcome, TryLater)


@dataclass(frozen=True)
class _Sound:
    """What the first delivery of a new adapter takes where nothing is spoilt."""

    requests: int
    seconds: float


def _sound_delivery(operator: Operator, link: FaultyLink) -> _Sound:
    operator.begin_anew()
    link.heal()
    link.targets.clear()
    adapter = operator.adapter_for(link.url, LONG)
    began = time.monotonic()
    assert adapter.deliver(wish(True)) == Done()
    seconds = time.monotonic() - began
    operator.begin_anew()
    return _Sound(len(link.targets), seconds)


def _spoil_each_request(operator: Operator, link: FaultyLink, fault: Fault) -> None:
    """Spoil one request of a delivery, each in turn: never a false outcome, and made good by the next."""
    for position in range(_sound_delivery(operator, link).requests):
        operator.begin_anew()
        link.spoil(position, fault)
        adapter = operator.adapter_for(link.url, LONG)
        _assert_honest(adapter.deliver(wish(True)), operator)
        link.heal()
        assert adapter.deliver(wish(True)) == Done()
        assert operator.receives_public_mail()


def _assert_honest(outcome: Outcome, operator: Operator) -> None:
    """To be tried later; or done, since another request made it good, and truly so."""
    assert isinstance(outcome, TryLater) or (outcome == Done() and operator.receives_public_mail())
