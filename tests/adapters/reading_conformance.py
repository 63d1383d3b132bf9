"""What every adapter that reads accounts must bear; part of the suite in conformance.py.

A wrong read is worse than none: an account that is taken for absent is removed from the register.
"""

import logging
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from adapters.adapter import AccountReader, AccountState, MailboxAdapter, TryLater
from tests.adapters import faulty_link as faults
from tests.adapters.faulty_link import Fault, FaultyLink
from tests.adapters.operator import LONG, SHORT, Operator
from tests.adapters.sandbox import NOBODY_LISTENS, PERSON, WITHOUT_ACCOUNT, trickling

SPOILING: dict[str, Fault] = {
    "cut": faults.cut,
    "lost": faults.lose_answer,
    "halved": faults.halve,
    **{f"answered_{status}": faults.answer(status) for status in (200, 403, 404, 409, 410, 503)},
    "empty_200": faults.answer(200, b""),
    "empty_204": faults.answer(204, b""),
    "empty_404": faults.answer(404, b""),
}


class ReadingConformance:
    """The scenarios; skipped on an adapter that reads no accounts."""

    patience = 5.0

    def test_what_is_read_is_what_stands_there_and_stays_so(self, operator: Operator) -> None:
        reader = _reader(operator.adapter_for(operator.url, LONG))
        for receives in (True, False, True):
            operator.seed(receives=receives)
            assert _reads(reader, receives=receives)
            assert operator.receives_public_mail() == receives

    def test_a_person_without_account_is_read_as_one(self, operator: Operator) -> None:
        reader = _reader(operator.adapter_for(operator.url, LONG))
        operator.seed(receives=True)
        assert _reads(reader, receives=True)
        assert _reads_no_account(reader)

    @pytest.mark.parametrize("fault", SPOILING)
    def test_a_read_that_is_spoilt_says_nothing_about_the_person(
        self, operator: Operator, link: FaultyLink, fault: str
    ) -> None:
        for position in range(_requests_of_a_read(operator, link)):
            reader = _reader(operator.adapter_for(link.url, LONG))
            link.spoil(position, SPOILING[fault])
            outcome = reader.read(PERSON)
            # Another request may have made it good.
            assert isinstance(outcome, TryLater) or _is_sound(outcome, receives=True)
            link.heal()
            assert _reads(reader, receives=True)

    def test_a_read_that_was_changed_on_its_way_is_not_believed(
        self, operator: Operator, link: FaultyLink
    ) -> None:
        if operator.signed_from is None:
            pytest.skip("its answers are not signed: that is for TLS to see")
        for position in range(operator.signed_from, _requests_of_a_read(operator, link)):
            reader = _reader(operator.adapter_for(link.url, LONG))
            link.spoil(position, faults.alter)
            assert isinstance(reader.read(PERSON), TryLater)
            link.heal()

    def test_a_read_at_an_operator_that_is_not_there_is_tried_later(self, operator: Operator) -> None:
        reader = _reader(operator.adapter_for(f"http://{NOBODY_LISTENS}", LONG))
        assert isinstance(reader.read(PERSON), TryLater)

    def test_a_read_that_is_not_answered_is_given_up(self, operator: Operator, link: FaultyLink) -> None:
        for position in range(_requests_of_a_read(operator, link)):
            link.spoil(position, faults.half_open)
            self._read_is_given_up(operator, link.url)
            link.heal()
        with socket.create_server(("127.0.0.1", 0)) as silent:
            self._read_is_given_up(operator, "http://{}:{}".format(*silent.getsockname()))
        with trickling() as trickle:
            self._read_is_given_up(operator, trickle.url)

    def test_reads_out_of_order_are_about_whom_they_asked_about(
        self, operator: Operator, link: FaultyLink
    ) -> None:
        for position in range(_requests_of_a_read(operator, link)):
            reader = _reader(operator.adapter_for(link.url, LONG))
            link.spoil(position, faults.come_late)
            with ThreadPoolExecutor(1) as pool:
                overtaken = pool.submit(reader.read, PERSON)
                try:
                    link.wait_until_spoilt()
                    assert _reads_no_account(reader)
                    assert not overtaken.done()
                finally:
                    link.heal()
                assert _is_sound(overtaken.result(LONG), receives=True)

    def test_an_adapter_that_the_operator_does_not_let_in_reads_nothing(self, operator: Operator) -> None:
        operator.seed(receives=True)
        stranger = _reader(operator.strangers_adapter(operator.url))
        for identifier in (PERSON, WITHOUT_ACCOUNT):
            assert isinstance(stranger.read(identifier), TryLater)

    def test_an_operator_whose_clock_is_off_loses_nobodys_account(self, operator: Operator) -> None:
        operator.seed(receives=True)
        reader = _reader(operator.adapter_for(operator.url, LONG))
        with operator.clock_off():
            outcome = reader.read(PERSON)
        assert isinstance(outcome, TryLater) or _is_sound(outcome, receives=True)

    def test_nothing_personal_of_a_read_reaches_logs_spans_or_addresses(
        self,
        operator: Operator,
        link: FaultyLink,
        spans: InMemorySpanExporter,
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        caplog.set_level(logging.DEBUG)
        targets = []
        for fault in (faults.lose_answer, faults.answer(403), faults.halve):
            for position in range(_requests_of_a_read(operator, link)):
                reader = _reader(operator.adapter_for(link.url, LONG))
                link.spoil(position, fault)
                for identifier in (PERSON, WITHOUT_ACCOUNT):
                    reader.read(identifier)
                targets += link.targets
                link.heal()
        output = capfd.readouterr()
        seen = [caplog.text, output.out, output.err]
        seen += [span.to_json() for span in spans.get_finished_spans()]
        if not operator.identity_in_addresses:
            seen += targets
        for identifier in (PERSON, WITHOUT_ACCOUNT):
            assert not [each for each in seen if identifier in each]

    def _read_is_given_up(self, operator: Operator, url: str) -> None:
        reader = _reader(operator.adapter_for(url, SHORT))
        began = time.monotonic()
        outcome = reader.read(PERSON)
        assert time.monotonic() - began < SHORT + self.patience
        assert isinstance(outcome, TryLater)


def _reader(adapter: MailboxAdapter) -> AccountReader:
    if not isinstance(adapter, AccountReader):
        pytest.skip("it reads no accounts")
    return adapter


def _requests_of_a_read(operator: Operator, link: FaultyLink) -> int:
    """How many requests the first read of a new adapter takes; PERSON receives public mail from now on."""
    operator.begin_anew()
    operator.seed(receives=True)
    link.heal()
    link.targets.clear()
    assert _reads(_reader(operator.adapter_for(link.url, LONG)), receives=True)
    return len(link.targets)


def _reads(reader: AccountReader, *, receives: bool) -> bool:
    return _is_sound(reader.read(PERSON), receives=receives)


def _is_sound(outcome: object, *, receives: bool) -> bool:
    """Whether the outcome is PERSON's account, as far as the operator tells."""
    return (
        isinstance(outcome, AccountState)
        and outcome.receives_public_mail == receives
        and outcome.account_exists is not False
    )


def _reads_no_account(reader: AccountReader) -> bool:
    outcome = reader.read(WITHOUT_ACCOUNT)
    return (
        isinstance(outcome, AccountState)
        and not outcome.receives_public_mail
        and not outcome.account_exists
        and not outcome.address
    )
