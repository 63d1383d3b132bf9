"""The loop that is the same for every adapter, against a register on a real socket."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from krr.v1 import delivery_service_pb2 as pb
from krr_client import connect
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from adapters.adapter import Done, Refused, TryLater
from adapters.backoff import delay_after
from adapters.circuit_breaker import CircuitBreaker
from adapters.runner import Runner
from adapters.work import mailbox_work
from tests.adapters.fake_register import FakeRegister, eventually, in_thread, serving

IDENTIFIER = "11887197158"

Deliver = Callable[[pb.Delivery], Done | TryLater | Refused]


class Supplier:
    """An adapter that notes what it was given and answers as told."""

    deadline_seconds = 0.0

    def __init__(self, deliver: Deliver = lambda _: Done()) -> None:
        self.given: list[int] = []
        self._deliver = deliver

    def deliver(self, delivery: pb.Delivery) -> Done | TryLater | Refused:
        self.given.append(delivery.delivery_id)
        return self._deliver(delivery)


def deliveries(count: int, failed_attempts: int = 0) -> list[pb.Delivery]:
    return [
        pb.Delivery(
            delivery_id=number,
            lease_token=f"lease-{number}",
            identifier=IDENTIFIER,
            change_number=1000 + number,
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


def runner(
    register: FakeRegister,
    supplier: Supplier,
    *,
    concurrency: int = 4,
    lease_seconds: float = 30.0,
    breaker: CircuitBreaker | None = None,
) -> Runner[pb.Delivery]:
    return Runner(
        mailbox_work("test", supplier, register.channel, lease_seconds),
        concurrency=concurrency,
        breaker=breaker,
    )


@pytest.mark.parametrize(
    ("failed_attempts", "delay"),
    [(0, 1), (1, 2), (2, 5), (3, 15), (4, 60), (5, 300), (6, 900), (7, 3600), (8, 3600), (1000, 3600)],
)
def test_the_wait_lies_between_half_of_the_delay_and_all_of_it(failed_attempts: int, delay: float) -> None:
    assert delay_after(failed_attempts, 0) == delay / 2
    assert delay_after(failed_attempts, 1) == delay


def test_the_breaker_lets_one_at_a_time_through_after_its_pause_until_an_answer() -> None:
    breaker = CircuitBreaker(threshold=2, pause=5)
    breaker.failed_for_now(100)
    assert breaker.allowance(100, free=8, in_hand=0) == 8
    breaker.failed_for_now(101)
    assert breaker.allowance(105.9, free=8, in_hand=0) == 0
    assert breaker.allowance(106, free=7, in_hand=1) == 0
    assert breaker.allowance(106, free=8, in_hand=0) == 1
    breaker.failed_for_now(107)
    assert breaker.allowance(111, free=8, in_hand=0) == 0
    breaker.answered(begun=110)
    assert breaker.allowance(111, free=8, in_hand=0) == 8


def test_each_outcome_reaches_the_register(register: FakeRegister) -> None:
    outcomes: dict[int, Done | TryLater | Refused] = {
        1: Done(),
        2: TryLater("HTTP_503"),
        3: Refused("NO_ACCOUNT"),
    }
    register.deliveries = deliveries(3, failed_attempts=3)
    with in_thread(runner(register, Supplier(lambda d: outcomes[d.delivery_id])).run):
        eventually(lambda: len(register.finished) == 3)
    done, later, refused = sorted(register.finished, key=lambda request: request.delivery_id)
    assert done.HasField("done")
    assert done.lease_token == "lease-1"
    assert later.try_later.error_code == "HTTP_503"
    assert 7.5 <= later.try_later.delay.ToMilliseconds() / 1000 <= 15
    assert refused.refused.error_code == "NO_ACCOUNT"
    assert set(register.lease_seconds) == {30}


def test_no_more_is_leased_than_there_are_free_threads(register: FakeRegister) -> None:
    register.deliveries = deliveries(6)
    gate = threading.Event()

    def deliver(_delivery: pb.Delivery) -> Done:
        gate.wait(10)
        return Done()

    supplier = Supplier(deliver)
    with in_thread(runner(register, supplier, concurrency=4).run):
        eventually(lambda: len(supplier.given) == 4)
        time.sleep(0.3)
        assert register.lease_sizes == [4]
        gate.set()
        eventually(lambda: len(register.finished) == 6)
    assert max(register.lease_sizes) <= 4


def test_an_idle_adapter_asks_a_few_times_a_second(register: FakeRegister) -> None:
    with in_thread(runner(register, Supplier()).run):
        time.sleep(0.6)
    assert 2 <= len(register.lease_sizes) <= 4


def test_stopping_ends_what_is_in_hand_and_leases_no_more(register: FakeRegister) -> None:
    register.deliveries = deliveries(3)
    gate = threading.Event()

    def deliver(_delivery: pb.Delivery) -> Done:
        gate.wait(10)
        return Done()

    supplier = Supplier(deliver)
    with in_thread(runner(register, supplier, concurrency=2).run) as stop:
        eventually(lambda: len(supplier.given) == 2)
        stop.set()
        gate.set()
    assert len(register.finished) == 2
    assert len(register.deliveries) == 1


def test_work_that_waited_too_long_for_its_lease_is_not_begun(register: FakeRegister) -> None:
    register.deliveries = deliveries(1)
    register.before_lease_answer = lambda: time.sleep(0.25)
    supplier = Supplier()
    with in_thread(runner(register, supplier, lease_seconds=0.6).run):
        eventually(lambda: len(register.lease_sizes) > 2)
    assert supplier.given == []
    assert register.finished == []


def test_a_supplier_that_is_away_gets_one_probe_at_a_time(register: FakeRegister) -> None:
    register.deliveries = deliveries(40)
    away = True
    supplier = Supplier(lambda _: TryLater("UNREACHABLE") if away else Done())
    with (
        capture_logs() as logs,
        in_thread(runner(register, supplier, breaker=CircuitBreaker(threshold=5, pause=0.1)).run),
    ):
        time.sleep(0.4)
        # Five, those that were in hand with the fifth, and a probe for each pause.
        assert len(supplier.given) <= 5 + 3 + 4
        assert register.lease_sizes[-1] == 1
        away = False
        eventually(lambda: len(register.finished) == 40)
    assert [log["event"] for log in logs if log["event"].startswith("supplier")] == [
        "supplier seems to be away",
        "supplier is back",
    ]


def test_an_adapters_fault_is_tried_later_and_its_text_kept_out_of_logs_and_spans(
    register: FakeRegister, spans: InMemorySpanExporter
) -> None:
    def deliver(delivery: pb.Delivery) -> Done:
        raise ValueError(f"bad person {delivery.identifier}")

    register.deliveries = deliveries(1)
    with capture_logs() as logs, in_thread(runner(register, Supplier(deliver)).run):
        eventually(lambda: register.finished)
    assert register.finished[0].try_later.error_code == "ADAPTER_FAULT"
    assert [log["exception"] for log in logs if log["event"] == "adapter fault"] == ["ValueError"]
    written = repr(logs) + "".join(span.to_json() for span in spans.get_finished_spans())
    assert IDENTIFIER not in written


@pytest.mark.parametrize("code", ["lower_case", f"PERSON_{IDENTIFIER}", "", "X" * 65])
def test_an_error_code_that_the_register_would_refuse_is_a_fault(register: FakeRegister, code: str) -> None:
    register.deliveries = deliveries(1)
    with in_thread(runner(register, Supplier(lambda _: Refused(code))).run):
        eventually(lambda: register.finished)
    assert register.finished[0].try_later.error_code == "ADAPTER_FAULT"


def test_each_piece_of_work_is_a_span(register: FakeRegister, spans: InMemorySpanExporter) -> None:
    register.deliveries = deliveries(1)
    with in_thread(runner(register, Supplier(lambda _: Refused("NO_ACCOUNT"))).run):
        eventually(lambda: register.finished)
    (span,) = [span for span in spans.get_finished_spans() if span.name == "deliver test"]
    assert dict(span.attributes or {}) == {
        "krr.adapter": "test",
        "krr.change_number": 1001,
        "krr.delivery_id": 1,
        "krr.error_code": "NO_ACCOUNT",
        "krr.outcome": "refused",
    }


def test_a_lost_lease_is_dropped(register: FakeRegister) -> None:
    register.finish_refusal = (grpc.StatusCode.ABORTED, "LEASE_LOST")
    register.deliveries = deliveries(1)
    supplier = Supplier()
    with capture_logs() as logs, in_thread(runner(register, supplier).run):
        eventually(lambda: any(log["event"] == "outcome not recorded" for log in logs))
        register.finish_refusal = None
        register.deliveries = deliveries(1)
        eventually(lambda: register.finished)
    assert supplier.given == [1, 1]
    assert len(register.finished) == 1


def test_an_outcome_is_told_again_when_the_register_was_away(
    register: FakeRegister, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.runner._REGISTER_AWAY_SECONDS", 0.1)
    register.finish_refusal = (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
    register.deliveries = deliveries(1)
    supplier = Supplier()
    with capture_logs() as logs, in_thread(runner(register, supplier).run):
        eventually(lambda: any(log["event"] == "register away" for log in logs), 10)
        register.finish_refusal = None
        eventually(lambda: register.finished)
    assert supplier.given == [1]


def test_a_register_that_is_away_is_logged_once_and_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.runner._REGISTER_AWAY_SECONDS", 0.05)
    before, after = FakeRegister(), FakeRegister()
    with serving(before) as port:
        pass
    after.deliveries = deliveries(1)
    asked: list[int] = []
    with connect(f"127.0.0.1:{port}", "Development adapter/test") as channel:
        work = mailbox_work("test", Supplier(), channel, 30)

        def lease(count: int) -> Sequence[pb.Delivery]:
            asked.append(count)
            return work.lease(count)

        with capture_logs() as logs, in_thread(Runner(replace(work, lease=lease)).run):
            eventually(lambda: len(asked) > 2, 10)
            with serving(after, port):
                eventually(lambda: after.finished)
                eventually(lambda: logs[-1]["event"] == "register is back")
                assert [log["event"] for log in logs] == ["register away", "register is back"]


def test_an_adapter_that_may_take_longer_than_two_thirds_of_its_lease_is_refused(
    register: FakeRegister,
) -> None:
    supplier = Supplier()
    supplier.deadline_seconds = 20
    runner(register, supplier, lease_seconds=30)
    with pytest.raises(ValueError, match="KRR_ADAPTER_LEASE_SECONDS, which is 29\\.9"):
        runner(register, supplier, lease_seconds=29.9)


def test_the_program_does_not_start_with_a_lease_too_short_for_its_adapter(tmp_path: Path) -> None:
    program = subprocess.run(
        [sys.executable, "-m", "adapters", "eboks"],
        env={
            **os.environ,
            "KRR_TRACE_DIRECTORY": str(tmp_path),
            "KRR_ADAPTER_LEASE_SECONDS": "10",
            "KRR_EBOKS_URL": "https://eboks.example",
            "KRR_EBOKS_TOKEN_FILE": str(tmp_path / "token"),
        },
        capture_output=True,
        text=True,
        timeout=15,
    )
    assert (program.returncode, program.stderr) == (
        2,
        "eboks: its deadline of 20 s is more than two thirds of KRR_ADAPTER_LEASE_SECONDS, which is 10\n",
    )


def test_sigterm_ends_the_program_with_status_0(register: FakeRegister, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from adapters.adapter import Done\n"
        "class Own:\n"
        "    def deliver(self, delivery):\n"
        "        return Done()\n"
    )
    register.deliveries = deliveries(3)
    program = subprocess.Popen(
        [sys.executable, "-m", "adapters", "own:Own"],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
            "KRR_REGISTER": f"127.0.0.1:{register.port}",
            "KRR_TRACE_DIRECTORY": str(tmp_path / "traces"),
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    with program:
        eventually(lambda: len(register.finished) == 3, 15)
        program.send_signal(signal.SIGTERM)
        _, errors = program.communicate(timeout=10)
    assert program.returncode == 0, errors
    traces = (tmp_path / "traces" / "adapter-own.jsonl").read_text()
    assert "deliver own" in traces
    assert "FinishDelivery" in traces
    assert "LeaseDeliveries" not in traces
    assert IDENTIFIER not in traces + errors
