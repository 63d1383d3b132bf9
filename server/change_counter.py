"""The register's last change number, read by one thread for everyone who waits for a change."""

import threading
import time
from collections import deque
from collections.abc import Callable

from server.domain.errors import Reason, Refusal

# While somebody waits, and while nobody does; the latter also tells health that the database answers.
_READ_EVERY_SECONDS = 0.01
_ASK_EVERY_SECONDS = 0.5
# Those who wait are woken a few at a time, and each wakes the next when it is back to wait. All
# at once they would hold up each other and every other call.
_WAKE_AT_ONCE = 4


class Waiter:
    """One call that may wait for changes, until its caller is gone."""

    def __init__(self) -> None:
        self.gone = False
        self.bell = threading.Event()

    def leave(self) -> None:
        """The caller is gone: end the wait that goes on, and begin no other."""
        self.gone = True
        self.bell.set()


class ChangeCounter:
    """Follows the counter of change numbers from start() to end().

    read: gives the last change number; it may hang and raise anything.

    answered_time is when, on time.monotonic(), the last read began that was answered; in the
    distant past where the last one failed.
    """

    def __init__(self, read: Callable[[], int]) -> None:
        self._read = read
        # The database was asked a moment ago, by whoever built this.
        self.answered_time = time.monotonic()
        # Guards what follows; notified when somebody begins to wait.
        self._asked = threading.Condition()
        self._number = 0
        self._waiters: set[Waiter] = set()
        self._to_wake: deque[Waiter] = deque()
        self._ended = False
        self._thread = threading.Thread(target=self._follow, name="change-counter", daemon=True)

    def start(self) -> None:
        """Follow in the background."""
        self._thread.start()

    def end(self) -> None:
        """Follow no more; whoever waits is refused."""
        with self._asked:
            self._ended = True
            self._to_wake.extend(self._waiters)
            self._wake(len(self._to_wake))
            self._asked.notify()
        # One that hangs with the database is left to end with the process.
        self._thread.join(timeout=1)

    def wait_beyond(self, number: int, until: float, waiter: Waiter) -> int:
        """Return the newest number known as soon as it is above `number`, at the latest at the
        moment `until` (on time.monotonic()) or when the waiter leaves.

        Raises Refusal: SERVER_ENDING.
        """
        with self._asked:
            self._wake(1)
            waits = not self._ended and self._number <= number
            if waits:
                # Before the look at `gone`: who leaves later rings again.
                waiter.bell.clear()
                self._waiters.add(waiter)
                self._asked.notify()
        if waits and not waiter.gone:
            waiter.bell.wait(max(0.0, until - time.monotonic()))
        with self._asked:
            self._waiters.discard(waiter)
            if self._ended:
                raise Refusal(Reason.SERVER_ENDING)
            return self._number

    def _follow(self) -> None:
        while not self._ended:
            self._look()
            time.sleep(_READ_EVERY_SECONDS)

    def _look(self) -> None:
        began, number = time.monotonic(), None
        try:
            number = self._read()
            self.answered_time = began
        except Exception:
            # Whatever it was, the thread goes on: else no wait would ever end well again.
            self.answered_time = float("-inf")
        with self._asked:
            if number is not None and number > self._number:
                self._number = number
                self._to_wake.extend(self._waiters)
                self._waiters.clear()
            # Also for those who were woken and did not come back.
            self._wake(_WAKE_AT_ONCE)
            self._asked.wait_for(
                lambda: self._ended or (number is not None and (self._waiters or self._to_wake)),
                _ASK_EVERY_SECONDS,
            )

    def _wake(self, count: int) -> None:
        for _ in range(min(count, len(self._to_wake))):
            self._to_wake.popleft().bell.set()
