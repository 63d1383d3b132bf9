"""When the runner holds back: its supplier refuses the adapter itself, or takes only so much a second."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from krr.v1 import delivery_service_pb2 as pb
from krr_client import connect
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from adapters.adapter import Done, Misconfigured, Refused, TryLater
from adapters.circuit_breaker import CircuitBreaker
from adapters.runner import Runner
from adapters.token_bucket import TokenBucket
from adapters.work import mailbox_work
from tests.adapters.fake_register import FakeRegister, eventually, in_thread, serving


class Supplier:
    """An adapter that notes when it was given work and answers as told."""

    def __init__(self, deliver: Callable[[pb.Delivery], Done | TryLater | Refused]) -> None:
        self.begun: list[float] = []
        self._deliver = deliver

    def deliver(self, delivery: pb.Delivery) -> Done | TryLater | Refused:
        self.begun.append(time.monotonic())
        return self._deliver(delivery)


@pytest.fixture
def register() -> Iterator[FakeRegister]:
    fake = FakeRegister()
    fake.deliveries = [
        pb.Delivery(delivery_id=number, lease_token=f"lease-{number}", failed_attempts=6)
        for number in range(1, 41)
    ]
    with serving(fake) as port, connect(f"127.0.0.1:{port}", "Development adapter/test") as channel:
        fake.port, fake.channel = port, channel
        yield fake


def runner(
    register: FakeRegister,
    supplier: Supplier,
    *,
    breaker: CircuitBreaker | None = None,
    rate: TokenBucket | None = None,
) -> Callable[[threading.Event], None]:
    work = mailbox_work("test", supplier, register.channel, 30)
    return Runner(work, concurrency=4, breaker=breaker, rate=rate).run


# --- the supplier refuses the adapter itself


def test_the_breaker_lets_one_through_after_its_long_pause_until_one_gets_through() -> None:
    breaker = CircuitBreaker(threshold=2, pause=5, long_pause=300)
    breaker.misconfigured(100)
    assert breaker.is_misconfigured
    assert breaker.allowance(399.9, free=8, in_hand=0) == 0
    assert breaker.allowance(400, free=7, in_hand=1) == 0
    assert breaker.allowance(400, free=8, in_hand=0) == 1
    breaker.answered(begun=400)
    assert not breaker.is_misconfigured
    assert breaker.allowance(400, free=8, in_hand=0) == 8


def test_what_was_in_hand_at_the_refusal_does_not_say_that_it_is_put_right() -> None:
    breaker = CircuitBreaker(long_pause=300)
    breaker.misconfigured(100)
    breaker.answered(begun=99.9)
    assert breaker.allowance(102, free=8, in_hand=0) == 0


def test_a_probe_that_fails_for_now_is_followed_by_another_long_pause() -> None:
    breaker = CircuitBreaker(threshold=1, pause=5, long_pause=300)
    breaker.misconfigured(100)
    breaker.failed_for_now(410)
    assert breaker.allowance(709, free=8, in_hand=0) == 0
    assert breaker.allowance(710, free=8, in_hand=0) == 1


def test_a_misconfigured_adapter_gives_its_work_back_alarms_once_and_probes_until_it_works(
    register: FakeRegister, spans: InMemorySpanExporter
) -> None:
    wrong = True
    supplier = Supplier(lambda _: Misconfigured("REVOKED_CERTIFICATE") if wrong else Done())
    with (
        capture_logs() as logs,
        in_thread(runner(register, supplier, breaker=CircuitBreaker(long_pause=0.3))),
    ):
        time.sleep(1.0)
        # Those in hand together, and a probe for each pause.
        assert len(supplier.begun) <= 4 + 3
        assert register.lease_sizes[1:] == [1] * (len(register.lease_sizes) - 1)
        given_back = list(register.finished)
        assert given_back
        # At once, however often the piece failed: it is not the piece that fails.
        assert all(request.try_later.error_code == "REVOKED_CERTIFICATE" for request in given_back)
        assert all(request.try_later.delay.ToMilliseconds() <= 1000 for request in given_back)
        wrong = False
        eventually(lambda: len(register.finished) == 40)
    assert not [request for request in register.finished if request.HasField("refused")]
    told = [log for log in logs if log["event"].startswith("adapter ")]
    assert [(log["event"], log["log_level"]) for log in told] == [
        ("adapter misconfigured", "error"),
        ("adapter works again", "warning"),
    ]
    assert told[0]["error_code"] == "REVOKED_CERTIFICATE"
    assert "misconfigured" in {
        (span.attributes or {}).get("krr.outcome") for span in spans.get_finished_spans()
    }


def test_a_misconfigured_adapters_program_stays_up_and_asks_seldom(
    register: FakeRegister, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(
        "from adapters.adapter import Misconfigured\n"
        "class Own:\n"
        "    def deliver(self, delivery):\n"
        "        return Misconfigured('REVOKED_CERTIFICATE')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "adapters", "own:Own"],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
            "KRR_REGISTER": f"127.0.0.1:{register.port}",
            "KRR_TRACE_DIRECTORY": str(tmp_path / "traces"),
            "KRR_ADAPTER_CONCURRENCY": "2",
            "KRR_ADAPTER_MOST_PER_SECOND": "1",
            "KRR_ADAPTER_PROBE_SECONDS": "1",
        },
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        eventually(lambda: len(register.finished) == 3, 20)
        assert program.poll() is None
        program.send_signal(signal.SIGTERM)
        _, logs = program.communicate(timeout=10)
    assert program.returncode == 0, logs
    # By the rate one at first, then one for each pause.
    assert set(register.lease_sizes) == {1}
    assert logs.count("adapter misconfigured") == 1


# --- the rate


@given(
    rate=st.floats(0.1, 100),
    asked=st.lists(st.tuples(st.floats(0, 10), st.integers(0, 50)), min_size=1, max_size=50),
)
def test_over_any_time_the_bucket_gives_its_rate_and_what_it_kept(
    rate: float, asked: list[tuple[float, int]]
) -> None:
    bucket, now = TokenBucket(rate), 1000.0
    taken: list[tuple[float, int]] = []
    for pause, wanted in asked:
        now += pause
        count = min(wanted, bucket.available(now))
        bucket.take(count)
        taken.append((now, count))
    for first, (begins, _) in enumerate(taken):
        for last in range(first, len(taken)):
            given_out = sum(count for _, count in taken[first : last + 1])
            assert given_out <= max(rate, 1) + (taken[last][0] - begins) * rate + 1e-6


def test_a_bucket_fills_at_its_rate_and_keeps_a_seconds_worth() -> None:
    bucket = TokenBucket(4)
    assert bucket.available(50) == 4
    bucket.take(4)
    assert bucket.available(50.2) == 0
    assert bucket.available(50.5) == 2
    assert bucket.available(500) == 4


def test_a_slow_bucket_keeps_one_token() -> None:
    bucket = TokenBucket(0.1)
    assert bucket.available(50) == 1
    bucket.take(1)
    assert bucket.available(59) == 0
    assert bucket.available(61) == 1


def test_no_more_is_leased_than_may_be_begun_at_once(register: FakeRegister) -> None:
    supplier = Supplier(lambda _: Done())
    began = time.monotonic()
    with in_thread(runner(register, supplier, rate=TokenBucket(2))):
        eventually(lambda: len(supplier.begun) == 4)
    assert supplier.begun[3] - began >= 0.9
    assert max(register.lease_sizes) <= 2
    assert len(register.finished) == len(supplier.begun)
