"""What a sweep asks for is read beside the deliveries, and never in their way."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from krr.v1 import delivery_service_pb2 as pb
from krr_client import connect
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from adapters.adapter import AccountPage, AccountState, Misconfigured, Refused, TryLater
from adapters.runner import Runner
from adapters.work import comparison_work
from tests.adapters.fake_register import NOT_TAKEN, FakeRegister, eventually, in_thread, serving
from tests.adapters.sandbox import PERSON

Read = Callable[[str], AccountState | TryLater]


class Reader:
    """An operator that notes whom it was asked about and answers as told."""

    def __init__(self, read: Read) -> None:
        self.asked: list[str] = []
        self._read = read

    def read(self, identifier: str) -> AccountState | TryLater:
        self.asked.append(identifier)
        return self._read(identifier)


def comparisons(count: int, failed_attempts: int = 0) -> list[pb.Comparison]:
    return [
        pb.Comparison(
            comparison_id=number,
            lease_token=f"lease-{number}",
            identifier=PERSON,
            failed_attempts=failed_attempts,
        )
        for number in range(1, count + 1)
    ]


@pytest.fixture
def register() -> Iterator[FakeRegister]:
    fake = FakeRegister()
    with serving(fake) as port, connect(f"127.0.0.1:{port}", "Development adapter/test") as channel:
        fake.port, fake.channel = port, channel
        yield fake


def runner(register: FakeRegister, read: Read, idle_seconds: float = 0.1) -> Runner[pb.Comparison]:
    return Runner(comparison_work("test", Reader(read), register.channel, 30.0, idle_seconds), concurrency=4)


def finished(register: FakeRegister, read: Read, failed_attempts: int = 0) -> pb.FinishComparisonRequest:
    """What the register is told of one comparison that is read so."""
    register.comparisons = comparisons(1, failed_attempts)
    with in_thread(runner(register, read).run):
        eventually(lambda: register.finished_comparisons, 20)
    [request] = register.finished_comparisons
    assert (request.comparison_id, request.lease_token) == (1, "lease-1")
    return request


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (AccountState(receives_public_mail=True), pb.AccountRead(receives_public_mail=True)),
        (
            AccountState(receives_public_mail=False, account_exists=False),
            pb.AccountRead(account_exists=False),
        ),
        (
            AccountState(True, account_exists=True, address="a#1234567", certificate=b""),
            pb.AccountRead(
                receives_public_mail=True, account_exists=True, mailbox_address="a#1234567", certificate=b""
            ),
        ),
    ],
)
def test_the_register_is_told_what_the_operator_tells_and_no_more(
    register: FakeRegister, state: AccountState, told: pb.AccountRead
) -> None:
    assert finished(register, lambda _: state).account == told


class Lister(Reader):
    def __init__(self, page: AccountPage | TryLater) -> None:
        super().__init__(lambda _: AccountState(True))
        self._page = page

    def list_after(self, identifier: str) -> AccountPage | TryLater:
        self.asked.append(f"after {identifier}")
        return self._page


def part_of_the_list(register: FakeRegister, reader: Reader) -> pb.FinishComparisonRequest:
    """What the register is told, which asked for the accounts after the first one."""
    part = pb.Comparison(comparison_id=1, accounts_after=pb.AccountsAfter(identifier="00000000001"))
    register.comparisons = [part]
    work = comparison_work("test", reader, register.channel, 30.0, 0.1)
    with in_thread(Runner(work, concurrency=1).run):
        eventually(lambda: register.finished_comparisons, 20)
    [request] = register.finished_comparisons
    return request


def test_a_part_of_the_list_reaches_the_register_as_listed(register: FakeRegister) -> None:
    lister = Lister(AccountPage([(PERSON, AccountState(True, True, "a#1234567"))], is_last=True))
    told = part_of_the_list(register, lister)
    account = pb.AccountRead(receives_public_mail=True, account_exists=True, mailbox_address="a#1234567")
    listed = pb.ListedAccount(identifier=PERSON, account=account)
    assert told.accounts == pb.AccountsRead(accounts=[listed], is_last=True)
    assert lister.asked == ["after 00000000001"]
    assert all(asked.lists_accounts for asked in register.comparison_leases)


def test_a_part_of_the_list_that_is_not_had_is_not_taken_for_an_empty_one(register: FakeRegister) -> None:
    told = part_of_the_list(register, Lister(TryLater("HTTP_503")))
    assert told.WhichOneof("outcome") == "try_later"


def test_a_part_of_the_list_is_not_for_an_adapter_that_does_not_list(register: FakeRegister) -> None:
    reader = Reader(lambda _: AccountState(True))
    assert part_of_the_list(register, reader).try_later.error_code == "LISTS_NO_ACCOUNTS"
    assert reader.asked == []


def test_one_who_lists_is_asked_for_single_persons_too(register: FakeRegister) -> None:
    register.comparisons = comparisons(1)
    lister = Lister(TryLater("HTTP_503"))
    with in_thread(Runner(comparison_work("test", lister, register.channel, 30.0, 0.1)).run):
        eventually(lambda: register.finished_comparisons, 20)
    assert lister.asked == [PERSON]


def test_a_read_that_failed_is_told_as_one_with_a_wait_that_grows(register: FakeRegister) -> None:
    told = finished(register, lambda _: TryLater("HTTP_503"), failed_attempts=3)
    assert told.WhichOneof("outcome") == "try_later"
    assert told.try_later.error_code == "HTTP_503"
    assert 7.5 <= told.try_later.delay.ToMilliseconds() / 1000 <= 15


def _breaks(identifier: str) -> AccountState:
    raise ValueError(f"bad person {identifier}")


@pytest.mark.parametrize(
    "read", [cast(Read, lambda _: Refused("NO_ACCOUNT")), cast(Read, lambda _: None), _breaks]
)
def test_what_is_no_read_says_nothing_about_the_person(register: FakeRegister, read: Read) -> None:
    with capture_logs() as logs:
        told = finished(register, read)
    assert told.WhichOneof("outcome") == "try_later"
    assert told.try_later.error_code == "ADAPTER_FAULT"
    assert PERSON not in repr(logs)


def test_a_read_that_the_register_does_not_take_is_not_asked_for_without_end(register: FakeRegister) -> None:
    with capture_logs() as logs:
        told = finished(register, lambda _: AccountState(True, account_exists=True, address=NOT_TAKEN))
    assert told.try_later.error_code == "READ_NOT_TAKEN"
    assert told.try_later.delay.seconds == 60
    [log] = [log for log in logs if log["event"] == "read not taken"]
    assert (log["krr.comparison_id"], log["reason"]) == (1, "INVALID_FIELD")
    assert NOT_TAKEN not in repr(logs)


def test_a_read_whose_lease_was_lost_is_dropped(register: FakeRegister) -> None:
    register.finish_refusal = (grpc.StatusCode.ABORTED, "LEASE_LOST")
    register.comparisons = comparisons(1)
    with capture_logs() as logs, in_thread(runner(register, lambda _: AccountState(True)).run):
        eventually(lambda: any(log["event"] == "outcome not recorded" for log in logs), 20)
    assert register.finished_comparisons == []


def test_what_is_to_be_read_is_leased_several_at_once(register: FakeRegister) -> None:
    gate = threading.Semaphore(0)

    def read(_identifier: str) -> AccountState:
        assert gate.acquire(timeout=60)
        return AccountState(True)

    register.comparisons = comparisons(7)
    work = comparison_work("test", Reader(read), register.channel, 300.0, 0.1)
    with in_thread(Runner(work, concurrency=4, least=2).run):
        eventually(lambda: len(register.comparisons) == 3, 20)
        gate.release()
        eventually(lambda: len(register.finished_comparisons) == 1, 20)
        time.sleep(0.6)
        assert [asked.max_comparisons for asked in register.comparison_leases] == [4]
        gate.release()
        eventually(lambda: len(register.comparisons) == 1, 20)
        # One alone is leased when none is in hand, and here when two are free again.
        gate.release(10)
        eventually(lambda: len(register.finished_comparisons) == 7, 20)


def test_each_read_is_a_span_that_names_nobody(register: FakeRegister, spans: InMemorySpanExporter) -> None:
    finished(register, lambda _: AccountState(True))
    [span] = [span for span in spans.get_finished_spans() if span.name == "read test"]
    assert dict(span.attributes or {}) == {
        "krr.adapter": "test",
        "krr.comparison_id": 1,
        "krr.outcome": "done",
    }


def test_a_register_without_comparisons_is_asked_seldom_and_stopping_does_not_wait_for_it(
    register: FakeRegister,
) -> None:
    with in_thread(runner(register, lambda _: AccountState(True), idle_seconds=600).run):
        eventually(lambda: register.comparison_leases, 20)
        time.sleep(0.6)
        assert len(register.comparison_leases) == 1
    [asked] = register.comparison_leases
    assert (asked.max_comparisons, asked.lease_duration.seconds, asked.lists_accounts) == (4, 30, False)


# --- the program

_ADAPTER = """
import threading
from adapters.adapter import AccountState, Done, Misconfigured
class Own:
    def deliver(self, delivery):
        return Done()
"""
_READS = """
    def read(self, identifier):
        {}
        return AccountState(True)
"""


@contextmanager
def program(register: FakeRegister, folder: Path, source: str, **settings: str) -> Iterator[None]:
    """`python -m adapters own:Own`, ended in order."""
    (folder / "own.py").write_text(source)
    environment: dict[str, Any] = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]),
        "KRR_REGISTER": f"127.0.0.1:{register.port}",
        "KRR_TRACE_DIRECTORY": str(folder / "traces"),
        "KRR_ADAPTER_READ_IDLE_SECONDS": "0.1",
        **settings,
    }
    with (folder / "log").open("w") as log:
        running = subprocess.Popen([sys.executable, "-m", "adapters", "own:Own"], env=environment, stderr=log)
    with running:
        try:
            yield
        finally:
            running.send_signal(signal.SIGTERM)
            status = running.wait(timeout=30)
    written = (folder / "log").read_text() + (folder / "traces" / "adapter-own.jsonl").read_text()
    assert status == 0, written
    assert PERSON not in written
    assert "LeaseComparisons" not in written


def _deliveries(count: int) -> list[pb.Delivery]:
    return [
        pb.Delivery(delivery_id=number, lease_token="lease", identifier=PERSON)
        for number in range(1, count + 1)
    ]


def test_the_program_reads_and_delivers(register: FakeRegister, tmp_path: Path) -> None:
    register.deliveries, register.comparisons = _deliveries(3), comparisons(12)
    with program(
        register, tmp_path, _ADAPTER + _READS.format("pass"), KRR_ADAPTER_MOST_READS_PER_SECOND="1000"
    ):
        eventually(lambda: len(register.finished) == 3 and len(register.finished_comparisons) == 12, 30)
    assert all(request.account.receives_public_mail for request in register.finished_comparisons)
    assert "FinishComparison" in (tmp_path / "traces" / "adapter-own.jsonl").read_text()


def test_an_adapter_that_does_not_read_takes_no_comparisons(register: FakeRegister, tmp_path: Path) -> None:
    register.deliveries = _deliveries(3)
    with program(register, tmp_path, _ADAPTER):
        eventually(lambda: len(register.finished) == 3, 30)
        asked = len(register.lease_sizes)
        eventually(lambda: len(register.lease_sizes) > asked + 2, 30)
    assert register.comparison_leases == []


@pytest.mark.parametrize(
    "trouble", ["threading.Event().wait(3)", "return Misconfigured('UNKNOWN_TOKEN')", "raise ValueError"]
)
def test_deliveries_go_on_whatever_becomes_of_reads(
    register: FakeRegister, tmp_path: Path, trouble: str
) -> None:
    register.comparisons = comparisons(50)
    with program(register, tmp_path, _ADAPTER + _READS.format(trouble)):
        # Reads are stuck, or held back, before the deliveries come.
        eventually(lambda: register.comparison_leases, 30)
        register.deliveries = _deliveries(40)
        eventually(lambda: len(register.finished) == 40, 30)
    assert register.comparisons, "the reads were not held back"


def test_no_more_is_read_in_a_second_than_may_be(register: FakeRegister, tmp_path: Path) -> None:
    register.comparisons = comparisons(100)
    source = _ADAPTER + _READS.format("pass")
    with program(register, tmp_path, source, KRR_ADAPTER_MOST_READS_PER_SECOND="2"):
        eventually(lambda: register.finished_comparisons, 30)
        began = time.monotonic()
        eventually(lambda: len(register.finished_comparisons) >= 6, 30)
        # Two at once, and then two a second.
        assert time.monotonic() - began > 1
    assert register.comparisons


def test_stopping_waits_for_the_read_in_hand(register: FakeRegister) -> None:
    gate = threading.Event()

    def read(_identifier: str) -> AccountState:
        gate.wait(20)
        return AccountState(True)

    register.comparisons = comparisons(1)
    with in_thread(runner(register, read).run) as stop:
        eventually(lambda: not register.comparisons, 20)
        stop.set()
        gate.set()
    assert len(register.finished_comparisons) == 1


def test_a_key_that_the_operator_does_not_accept_ends_reading_after_one(register: FakeRegister) -> None:
    register.comparisons = comparisons(3)
    work = comparison_work(
        "test", Reader(lambda _: Misconfigured("UNKNOWN_TOKEN")), register.channel, 30, 0.1
    )
    with capture_logs() as logs, in_thread(Runner(work, concurrency=1).run):
        eventually(lambda: register.finished_comparisons, 20)
        time.sleep(0.5)
    assert [request.try_later.error_code for request in register.finished_comparisons] == ["UNKNOWN_TOKEN"]
    [log] = [log for log in logs if log["event"] == "adapter misconfigured"]
    assert (log["adapter"], log["work"]) == ("test", "read")
