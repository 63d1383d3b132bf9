"""Those who follow the change feed through every cut, and hold each page against its promises."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from krr.v1 import person_pb2, register_service_pb2
from krr.v1.register_service_pb2_grpc import RegisterServiceStub
from krr_client import RegisterError
from krr_client.cuts import is_cut

from tests.e2e.episode import START, Episode, Position, Violation, credential, open_channel
from tests.people import PUBLIC_BODY

SECONDS_TO_CATCH_UP = 60
_CREDENTIAL = credential(f"public-body/{PUBLIC_BODY}")
_PAGE_SIZES = (1, 5, 20, 100, 1000)
_MEAN_WATCH_SECONDS = 0.4


def watch(episode: Episode, chance: random.Random) -> None:
    """Keep a copy of the register until it holds all that was written.

    Raises Violation.
    """
    watcher = _Watcher(episode, chance)
    try:
        watcher.follow()
    finally:
        watcher.channel.close()
    episode.final_copies.append(watcher.at.copy)


def read_on(register: str, start: Position, chance: random.Random) -> Mapping[str, person_pb2.Person]:
    """The copy after going on from there until it is caught up."""
    cursor, copy = start.cursor, dict(start.copy)
    with open_channel(register) as channel:
        while True:
            request = register_service_pb2.ListChangesRequest(
                after_cursor=cursor, page_size=chance.choice((20, 100, 1000))
            )
            page = RegisterServiceStub(channel).ListChanges(request, timeout=10, metadata=_CREDENTIAL)
            copy |= {person.identifier: person for person in page.persons}
            cursor = page.cursor
            if page.caught_up:
                return copy


def copies_astray(episode: Episode, register: Mapping[str, person_pb2.Person]) -> int:
    """How many watchers ended with another copy than the register."""
    return sum(copy != register for copy in episode.final_copies)


def positions_astray(episode: Episode, register: Mapping[str, person_pb2.Person]) -> int:
    """From how many of the kept positions the feed does not lead to the register."""
    return sum(
        read_on(episode.register, position, random.Random(seed)) != register
        for seed, position in enumerate(episode.positions)
    )


class _Watcher:
    def __init__(self, episode: Episode, chance: random.Random) -> None:
        self._episode = episode
        self._chance = chance
        self.at = START
        self.channel = open_channel(episode.register)

    def follow(self) -> None:
        ends = None
        while True:
            last = self._episode.written.is_set()
            if last and ends is None:
                ends = time.monotonic() + SECONDS_TO_CATCH_UP
            if ends is not None and time.monotonic() > ends:
                raise Violation(f"not caught up {SECONDS_TO_CATCH_UP} s after the last write")
            if not last:
                self._go_elsewhere()
            # Whatever anyone was told before the call was committed before the page is read.
            known = self._episode.known()
            size = self._chance.choice(_PAGE_SIZES)
            call = self._chance.choice((self._watch, self._watch, self._watch, self._list))
            try:
                if call(known, size, last) and last:
                    return
            except grpc.RpcError as failure:
                error = RegisterError.of(failure)
                if not is_cut(error):
                    raise Violation(f"the feed was refused: {error}") from None
                self._episode.count("calls that failed while a part was down")
                time.sleep(0.02)

    def _go_elsewhere(self) -> None:
        dice = self._chance.random()
        if dice < 0.02:
            self.at = START
        elif dice < 0.15 and self._episode.positions:
            self.at = self._chance.choice(self._episode.positions)
        else:
            return
        self._episode.count("starts elsewhere")

    def _list(self, known: Mapping[str, int], size: int, last: bool) -> bool:
        wait = Duration(nanos=self._chance.randrange(500_000_000)) if self._chance.random() < 0.7 else None
        request = register_service_pb2.ListChangesRequest(
            after_cursor=self.at.cursor, page_size=size, wait=wait
        )
        page = RegisterServiceStub(self.channel).ListChanges(request, timeout=5, metadata=_CREDENTIAL)
        self._take(page, size, known)
        return bool(page.caught_up)

    def _watch(self, known: Mapping[str, int], size: int, last: bool) -> bool:
        request = register_service_pb2.WatchChangesRequest(after_cursor=self.at.cursor, page_size=size)
        pages = RegisterServiceStub(self.channel).WatchChanges(request, metadata=_CREDENTIAL)
        closes = self._chance.random() < 0.3
        seconds = min(self._chance.expovariate(1 / _MEAN_WATCH_SECONDS), self._episode.longest_watch)
        if self._chance.random() < 0.03:
            seconds = self._episode.longest_watch
        with _cut_after(seconds, self.channel.close if closes else pages.cancel) as was_cut:
            try:
                for page in pages:
                    self._take(page, size, known)
                    if last and page.caught_up:
                        return True
                raise Violation("the feed ended")
            except (grpc.RpcError, ValueError):
                if not was_cut.is_set():
                    raise
                self._episode.count("calls cut off by the watcher")
                return False
            finally:
                pages.cancel()
                if closes:
                    self.channel.close()
                    self.channel = open_channel(self._episode.register)

    def _take(self, page: Any, size: int, known: Mapping[str, int]) -> None:
        if not page.cursor:
            raise Violation("a page has no cursor")
        if len(page.persons) > size:
            raise Violation("a page is larger than was asked for")
        if len({person.identifier for person in page.persons}) < len(page.persons):
            raise Violation("a page holds a person twice")
        copy, last = dict(self.at.copy), self.at.last
        for person in page.persons:
            number = person.change_number
            if number <= last:
                raise Violation(f"{number} came after {last}")
            if number < known.get(person.identifier, 0):
                raise Violation(f"a person came as of {number}; a newer state had been told before the call")
            self._episode.see(person)
            copy[person.identifier], last = person, number
        self.at = Position(page.cursor, copy, last)
        self._episode.know({person.identifier: person.change_number for person in page.persons})
        if page.caught_up:
            self._must_hold(known)
        self._episode.count("pages with persons" if page.persons else "pages without")
        if self._chance.random() < (0.02 if page.persons else 0.1):
            self._episode.keep(self.at)

    def _must_hold(self, known: Mapping[str, int]) -> None:
        copy = self.at.copy
        for identifier, number in known.items():
            held = copy[identifier].change_number if identifier in copy else 0
            if held < number:
                raise Violation(
                    f"caught up at {self.at.last}, and a person is as of {held}; {number} had been told"
                )


@contextmanager
def _cut_after(seconds: float, cut: Callable[[], object]) -> Iterator[threading.Event]:
    """Cut after so many seconds, from another thread; the event says whether it did."""
    was_cut = threading.Event()

    def run() -> None:
        was_cut.set()
        cut()

    timer = threading.Timer(seconds, run)
    timer.start()
    try:
        yield was_cut
    finally:
        timer.cancel()
        timer.join()
