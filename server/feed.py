"""Pages of a feed: one now, one after a wait, or one after another without end."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from server.call import MAX_SECONDS, Call
from server.change_counter import ChangeCounter
from server.domain.errors import Reason, Refusal

HEARTBEAT_SECONDS = 10.0
# A long poll answers so long before its caller gives up.
_ANSWER_BEFORE_DEADLINE_SECONDS = 1.0
_SHARED_PAGES = 16

Response = TypeVar("Response")
Result = TypeVar("Result")


class Reads(Protocol):
    """What reads a feed."""

    def last_change_number(self) -> int:
        """The highest change number committed."""


Reader = TypeVar("Reader", bound=Reads)


@dataclass(frozen=True)
class Page(Generic[Response]):
    """A page, ready to be sent.

    last: the reader has everything up to and including this number, and nothing beyond.
    """

    response: Response
    last: int
    caught_up: bool
    empty: bool


# Reads the page after a number.
ReadPage = Callable[[Reader, int], Page[Response]]


ReaderGiven = TypeVar("ReaderGiven", bound=Reads, covariant=True)


class ReadDoor(Protocol[ReaderGiven]):
    """Store.read, or Store.read_encoded."""

    def __call__(self, do: Callable[[ReaderGiven], Result], *, deadline: float) -> Result: ...


class Feed(Generic[Reader]):
    """Reads pages for those who follow a feed.

    read: reads from the store.
    reads_at_once: how many reads, so that those who follow leave connections to other calls.

    Everyone at the head waits for the same next page, so it is read once and given to all.
    """

    def __init__(self, read: ReadDoor[Reader], counter: ChangeCounter, reads_at_once: int) -> None:
        self._read = read
        self._counter = counter
        self._turns = threading.BoundedSemaphore(reads_at_once)
        self._lock = threading.Lock()
        self._shared: OrderedDict[Hashable, Future[Page[Any]]] = OrderedDict()

    def read(self, do: Callable[[Reader], Result], *, deadline: float) -> Result:
        """Read, when it is the caller's turn."""
        if not self._turns.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise Refusal(Reason.DEADLINE)
        try:
            return self._read(do, deadline=deadline)
        finally:
            self._turns.release()

    def page(
        self, read: ReadPage[Reader, Response], after: int, call: Call, wait_seconds: float
    ) -> Page[Response]:
        """One page, waiting for so long where there is nothing yet.

        Raises Refusal: AHEAD_OF_REGISTER, TOO_MANY_STREAMS, SERVER_ENDING, or as Store.read.
        """
        page = self._first(read, after, call)
        until = min(time.monotonic() + wait_seconds, call.ends - _ANSWER_BEFORE_DEADLINE_SECONDS)
        if not page.empty or time.monotonic() >= until:
            return page
        known = page.last
        with call.hold():
            while not call.waiter.gone:
                known = max(known, self._counter.wait_beyond(known, until, call.waiter))
                page = self.read(_after(page.last, read), deadline=call.deadline)
                if not page.empty or time.monotonic() >= until:
                    break
        return page

    def pages(
        self, read: ReadPage[Reader, Response], after: int, call: Call, shared_by: Hashable
    ) -> Iterator[Response]:
        """Pages without end, until the caller is gone; an empty one as heartbeat.

        shared_by: callers with an equal one want the same pages.

        Raises Refusal as page().
        """
        page = self._first(read, after, call)
        known, news = page.last, True
        while True:
            if news:
                yield page.response
                heartbeat = time.monotonic() + HEARTBEAT_SECONDS
            before, behind = known, not page.caught_up
            known = self._counter.wait_beyond(known, 0.0 if behind else heartbeat, call.waiter)
            if call.waiter.gone:
                return
            next_page = _after(page.last, read)
            if known > before and not behind:
                page = self._shared_page((shared_by, known, page.last), next_page)
            else:
                # A heartbeat must not say "caught up" from memory.
                page = self.read(next_page, deadline=call.deadline)
            known = max(known, page.last)
            news = behind or not page.empty or time.monotonic() >= heartbeat

    def _first(self, read: ReadPage[Reader, Response], after: int, call: Call) -> Page[Response]:
        def checked(reader: Reader) -> Page[Response]:
            must_be_fresh(reader, after)
            return read(reader, after)

        return self.read(checked, deadline=call.deadline)

    def _shared_page(self, key: Hashable, read: Callable[[Reader], Page[Response]]) -> Page[Response]:
        # The key holds the number that all of them have heard of: a page that was read for
        # one of them shows it, and so will do for each.
        mine: Future[Page[Response]] = Future()
        with self._lock:
            shared = self._shared.setdefault(key, mine)
            while len(self._shared) > _SHARED_PAGES:
                self._shared.popitem(last=False)
        if shared is mine:
            try:
                # Not by the deadline of one of them.
                mine.set_result(self.read(read, deadline=time.monotonic() + MAX_SECONDS))
            except Exception as fault:
                with self._lock:
                    self._shared.pop(key, None)
                mine.set_exception(fault)
        return shared.result()


def _after(number: int, read: ReadPage[Reader, Response]) -> Callable[[Reader], Page[Response]]:
    return lambda reader: read(reader, number)


def must_be_fresh(reader: Reads, change_number: int) -> None:
    """Pass if the register has reached the change number.

    Raises Refusal: AHEAD_OF_REGISTER, where the token that held it is from a future that
    this register has not seen.
    """
    if change_number and change_number > reader.last_change_number():
        raise Refusal(Reason.AHEAD_OF_REGISTER)
