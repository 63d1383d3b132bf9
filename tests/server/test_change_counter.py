"""The change counter: one thread reads for everyone, and nothing stops it."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from server.change_counter import ChangeCounter, Waiter
from server.domain.errors import Reason, Refusal
from tests.server.watching import wait_until


class Database:
    """What the counter reads: a number, a fault, or nothing for as long as it hangs."""

    def __init__(self) -> None:
        self.number = 0
        self.fault: BaseException | None = None
        self.answers = threading.Event()
        self.answers.set()
        self.times: list[float] = []
        self.readers: set[int] = set()

    def read(self) -> int:
        self.times.append(time.monotonic())
        self.readers.add(threading.get_ident())
        self.answers.wait()
        if self.fault:
            raise self.fault
        return self.number

    def reads_in(self, seconds: float) -> int:
        before = len(self.times)
        time.sleep(seconds)
        return len(self.times) - before


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def counter(database: Database) -> Iterator[ChangeCounter]:
    started = ChangeCounter(database.read)
    started.start()
    yield started
    database.answers.set()
    started.end()


@pytest.fixture
def wait(counter: ChangeCounter) -> Iterator[Callable[..., "Future[int]"]]:
    """Wait in a thread of its own."""
    with ThreadPoolExecutor(30) as pool:

        def wait(number: int = 0, seconds: float = 20, waiter: Waiter | None = None) -> "Future[int]":
            return pool.submit(counter.wait_beyond, number, time.monotonic() + seconds, waiter or Waiter())

        yield wait
        # Before the pool waits for those who still wait.
        counter.end()


def test_it_reads_often_while_someone_waits_and_now_and_then_while_nobody_does(
    database: Database, wait: Callable[..., "Future[int]"]
) -> None:
    assert database.reads_in(1.2) <= 4
    waits = [wait(seconds=0.6) for _ in range(20)]
    # One read for all who wait: 100 in a second at most, on a slow machine fewer.
    assert 10 <= database.reads_in(0.5) <= 55
    for each in waits:
        assert each.result() == 0
    assert database.reads_in(1.2) <= 5
    assert len(database.readers) == 1


def test_a_change_ends_the_wait_of_all_who_had_not_heard_of_it(
    database: Database, wait: Callable[..., "Future[int]"]
) -> None:
    for number in range(1, 20):
        waits, ahead = [wait(number - 1) for _ in range(10)], wait(number, seconds=0.1)
        database.number = number
        began = time.monotonic()
        assert [each.result(timeout=2) for each in waits] == [number] * 10
        assert time.monotonic() - began < 2
        assert ahead.result() == number


def test_a_change_that_was_heard_of_before_ends_a_wait_at_once(
    database: Database, wait: Callable[..., "Future[int]"], counter: ChangeCounter
) -> None:
    database.number = 7
    wait(6).result(timeout=1)
    database.answers.clear()

    assert counter.wait_beyond(6, time.monotonic() + 5, Waiter()) == 7


def test_a_wait_ends_at_its_moment_and_one_whose_moment_is_past_at_once(
    wait: Callable[..., "Future[int]"],
) -> None:
    began = time.monotonic()
    assert wait(5, seconds=0.3).result() == 0
    assert 0.25 < time.monotonic() - began < 2
    assert wait(5, seconds=-1).result(timeout=2) == 0


def test_who_leaves_waits_no_longer_and_never_again_and_wakes_nobody_else(
    wait: Callable[..., "Future[int]"],
) -> None:
    leaver = Waiter()
    left, other = wait(5, waiter=leaver), wait(5)
    time.sleep(0.1)

    leaver.leave()

    left.result(timeout=2)
    wait(5, waiter=leaver).result(timeout=2)
    assert not other.done()


def test_a_wait_ends_well_after_reads_that_failed(
    database: Database, counter: ChangeCounter, wait: Callable[..., "Future[int]"]
) -> None:
    for fault in (Refusal(Reason.DATABASE_UNAVAILABLE), ValueError(), OSError(), AssertionError()):
        waiting = wait(database.number)
        database.fault = fault
        wait_until(lambda: counter.answered_time == float("-inf"), 1, "the fault is noticed")
        # Not a hundred times a second.
        assert database.reads_in(0.6) <= 3

        database.fault = None
        database.number += 1
        assert waiting.result(timeout=2) == database.number
        assert time.monotonic() - counter.answered_time < 1


def test_a_read_that_hangs_holds_up_no_end_and_tells_when_the_last_one_was_answered(
    database: Database, counter: ChangeCounter, wait: Callable[..., "Future[int]"]
) -> None:
    database.answers.clear()
    wait_until(lambda: time.monotonic() - counter.answered_time > 1, 3, "no read is answered")
    hanging = wait(5)
    began = time.monotonic()

    counter.end()

    with pytest.raises(Refusal) as refused:
        hanging.result(timeout=1)
    assert refused.value.reason is Reason.SERVER_ENDING
    assert time.monotonic() - began < 1.5


def test_after_the_end_every_wait_is_refused(counter: ChangeCounter) -> None:
    counter.end()

    for until in (0.0, time.monotonic() + 5):
        with pytest.raises(Refusal) as refused:
            counter.wait_beyond(-1, until, Waiter())
        assert refused.value.reason is Reason.SERVER_ENDING
