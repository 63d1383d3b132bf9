"""Writers and watchers on one register at the same time, and what any of them was told."""

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from krr.v1 import person_pb2

from tests.people import synthetic_identifiers

_PERSONS = 200
_POSITIONS = 200


# Calls end as the register or the network ended them: no attempts but one's own.
_OPTIONS = [
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
]


def open_channel(register: str) -> grpc.Channel:
    """A channel as gRPC makes it, to which each call brings its credential()."""
    return grpc.insecure_channel(register, options=_OPTIONS)


def credential(caller: str) -> tuple[tuple[str, str | bytes], ...]:
    """The metadata of a call by "kind/name"."""
    return (("authorization", f"Development {caller}"),)


class Violation(Exception):
    """The register broke a promise."""


@dataclass(frozen=True)
class Position:
    """Where a reader stands: a cursor, the copy as of it, and the highest change number given."""

    cursor: str
    copy: Mapping[str, person_pb2.Person]
    last: int


START = Position("", {}, 0)


class Episode:
    """What those who take part share. Each runs in a thread of its own.

    register: host:port.
    longest_watch: seconds after which a watch is cut at the latest.

    stop is set when the writers are to stop, written when all have.
    """

    def __init__(self, register: str, longest_watch: float) -> None:
        self.register = register
        self.longest_watch = longest_watch
        identifiers = synthetic_identifiers()
        self.persons = list(itertools.islice(identifiers, _PERSONS))
        self._newcomers = enumerate(identifiers)
        self.stop = threading.Event()
        self.written = threading.Event()
        self.violated = threading.Event()
        self.violations: list[str] = []
        self.counts: Counter[str] = Counter()
        self.final_copies: list[Mapping[str, person_pb2.Person]] = []
        self.positions: list[Position] = []
        self._known: dict[str, int] = {}
        self._states: dict[tuple[str, int], person_pb2.Person] = {}
        self._kept = 0
        self._chance = random.Random(0)
        self._lock = threading.Lock()

    def count(self, what: str) -> None:
        """One more of it."""
        with self._lock:
            self.counts[what] += 1

    def wait_for(self, number: int, what: str) -> None:
        """Wait until so many more of it were counted, or a promise was broken.

        Fails after a minute.
        """
        goal, ends = self.counts[what] + number, time.monotonic() + 60
        while self.counts[what] < goal and not self.violated.wait(0.05):
            assert time.monotonic() < ends, f"no {number} {what} within a minute: {self.counts}"

    def newcomer(self) -> tuple[int, str]:
        """Somebody who was never in the register, with a number."""
        with self._lock:
            return next(self._newcomers)

    def know(self, numbers: Mapping[str, int]) -> None:
        """These change numbers were told to somebody, so what they stand for was committed."""
        with self._lock:
            for identifier, number in numbers.items():
                if number > self._known.get(identifier, 0):
                    self._known[identifier] = number

    def known(self) -> dict[str, int]:
        """The highest change number of each person that anyone was told by now."""
        with self._lock:
            return dict(self._known)

    def see(self, person: person_pb2.Person) -> None:
        """A watcher saw this state. Raises Violation where another was seen by the same number."""
        state = self._states.setdefault((person.identifier, person.change_number), person)
        if state != person:
            raise Violation(f"two states of one person have the change number {person.change_number}")

    def states_seen(self) -> int:
        """How many different states of persons the watchers saw."""
        return len(self._states)

    def keep(self, position: Position) -> None:
        """Keep it for others to start from: a sample of all that were to be kept."""
        with self._lock:
            self._kept += 1
            if len(self.positions) < _POSITIONS:
                self.positions.append(position)
            elif self._chance.randrange(self._kept) < _POSITIONS:
                self.positions[self._chance.randrange(_POSITIONS)] = position

    @contextmanager
    def under_way(self, writers: "Sequence[Act]", watchers: "Sequence[Act]", seed: int = 0) -> Iterator[None]:
        """All of them at work; in the end each watcher has caught up with the last write.

        How one failed is kept in violations.
        """
        writing = [self._begin(act, f"{seed} {number}") for number, act in enumerate(writers)]
        watching = [self._begin(act, f"{seed} {number}") for number, act in enumerate(watchers)]
        try:
            yield
        finally:
            self.stop.set()
            for thread in writing:
                thread.join()
            self.written.set()
            for thread in watching:
                thread.join()

    def _begin(self, act: "Act", seed: str) -> threading.Thread:
        def run() -> None:
            try:
                act(self, random.Random(f"{act.__name__} {seed}"))
            except Exception as fault:
                self.violations.append(f"{act.__name__} {seed}: {fault!r}")
                self.violated.set()

        thread = threading.Thread(target=run, name=f"{act.__name__} {seed}")
        thread.start()
        return thread


Act = Callable[[Episode, random.Random], None]
