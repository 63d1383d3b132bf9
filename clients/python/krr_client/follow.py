"""Following a feed for ever: the register's changes, or an operator's own mailboxes."""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import grpc
from krr.v1 import mailbox_operator_service_pb2 as operator_pb
from krr.v1 import person_pb2
from krr.v1 import register_service_pb2 as pb
from krr.v1.mailbox_operator_service_pb2_grpc import MailboxOperatorServiceStub
from krr.v1.register_service_pb2_grpc import RegisterServiceStub

from krr_client.cuts import delay_after, is_cut, next_response
from krr_client.errors import BrokenAnswer, RegisterError

# Seconds; then the stream is called anew, which costs nothing.
_LONGEST_STREAM = 600.0
_MOST_BROKEN_IN_A_ROW = 5

Page = TypeVar("Page")
Item = TypeVar("Item", person_pb2.Person, operator_pb.HeldMailbox)


@dataclass(frozen=True, slots=True)
class ChangesPage:
    """Persons as they are now, each at most once, by rising change number.

    persons: may be empty.
    cursor: where the page ends. Save it in the transaction that saves the persons.
    caught_up: nothing had changed after this page when it was read.
    restarted: from this page on the whole register comes anew, up to a page that is
        caught_up. Then drop the persons that did not come.
    """

    persons: tuple[person_pb2.Person, ...]
    cursor: str
    caught_up: bool
    restarted: bool


@dataclass(frozen=True, slots=True)
class MailboxesPage:
    """An operator's mailboxes as the register holds them now; otherwise as ChangesPage."""

    mailboxes: tuple[operator_pb.HeldMailbox, ...]
    cursor: str
    caught_up: bool
    restarted: bool


class Following(Iterator[Page]):
    """Pages without end: iterating ends only by close(); an error is raised again and again."""

    def __init__(self, line: "_Line", pages: Iterator[Page]) -> None:
        self._line = line
        self._pages = pages
        self._failure: Exception | None = None

    def __next__(self) -> Page:
        if self._failure:
            # A generator that failed would say that it is at its end.
            raise self._failure
        try:
            return next(self._pages)
        except StopIteration:
            raise
        except Exception as failure:
            self._failure = failure
            raise

    def close(self) -> None:
        """End it, from any thread; whoever iterates gets no more pages."""
        self._line.close()

    def __enter__(self) -> "Following[Page]":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def follow_changes(
    channel: grpc.Channel,
    cursor: str = "",
    *,
    page_size: int = 1000,
    silence: float = 30.0,
    longest_delay: float = 30.0,
) -> Following[ChangesPage]:
    """Follow the changes of the register for ever, from the cursor of the last saved page.

    channel: from connect(); the credential needs the right to the feed.
    cursor: "" to begin with the whole register: the first page is then `restarted`.
    page_size: persons per page, 1 to 1000.
    silence: seconds without a page or heartbeat (one comes every 10 seconds) after which the
        stream counts as cut off.
    longest_delay: seconds between attempts, at most (unless the register asks for more).

    The rule for a copy, in one transaction per page: save the persons and the cursor; skip
    a person older (change_number) than the one saved since the last restart; on a page that
    is caught_up, drop what has not come since the restart, if there was one.

    Hands over pages with persons, pages that are restarted, and the page on which caught_up
    becomes true. However a stream ends, it is a cut: it goes on from the last page, and no
    page is lost or handed over twice. Where the register was restored from a backup
    (FEED_RESET), it starts anew by itself.

    Raises RegisterError where another attempt would end the same way (INVALID_TOKEN,
    AHEAD_OF_REGISTER, CREDENTIAL_REFUSED, CALLER_NOT_ALLOWED, ...); BrokenAnswer where the
    register broke its contract 5 times in a row. Neither is ever the end of the feed.

    To stop, call close(), from any thread. Closing the channel stops it too, with
    RegisterError (CANCELLED) or ValueError.
    """
    stub = RegisterServiceStub(channel)

    def call(after: str) -> Any:
        request = pb.WatchChangesRequest(after_cursor=after, page_size=page_size)
        return stub.WatchChanges(request, timeout=_LONGEST_STREAM)

    line = _Line(call, silence)
    return Following(line, _pages(line, "persons", ChangesPage, cursor, longest_delay))


def follow_mailboxes(
    channel: grpc.Channel,
    cursor: str = "",
    *,
    page_size: int = 1000,
    silence: float = 30.0,
    longest_delay: float = 30.0,
) -> Following[MailboxesPage]:
    """Follow an operator's own mailboxes; all is as in follow_changes().

    A mailbox with an empty address is gone from the register.
    """
    stub = MailboxOperatorServiceStub(channel)

    def call(after: str) -> Any:
        request = operator_pb.WatchMailboxesRequest(after_cursor=after, page_size=page_size)
        return stub.WatchMailboxes(request, timeout=_LONGEST_STREAM)

    line = _Line(call, silence)
    return Following(line, _pages(line, "mailboxes", MailboxesPage, cursor, longest_delay))


class _Line:
    """The call of the moment; any thread may close it."""

    def __init__(self, call: Callable[[str], Any], silence: float) -> None:
        self._call_from = call
        self._silence = silence
        self._call: Any = None
        self._closed = threading.Event()

    def responses(self, cursor: str) -> Iterator[Any]:
        """What a call from the cursor gives, until close(). Raises RegisterError."""
        self._call = call = self._call_from(cursor)
        try:
            # It may have been closed before there was this call to cancel.
            while not self._closed.is_set():
                yield next_response(call, self._silence)
        except RegisterError:
            if not self._closed.is_set():
                raise
        finally:
            call.cancel()

    def wait(self, seconds: float) -> None:
        self._closed.wait(seconds)

    def is_closed(self) -> bool:
        return self._closed.is_set()

    def close(self) -> None:
        self._closed.set()
        if self._call:
            self._call.cancel()


def _pages(
    line: _Line, field: str, page: Callable[[Any, str, bool, bool], Page], cursor: str, longest_delay: float
) -> Iterator[Page]:
    failures = broken = 0
    caught_up = False
    while not line.is_closed():
        try:
            for response in line.responses(cursor):
                if not response.cursor:
                    raise BrokenAnswer("a page without a cursor")
                failures = broken = 0
                items = _latest(getattr(response, field))
                # Only the first page from the start was asked for without a cursor.
                restarted = not cursor
                is_news = restarted or (response.caught_up and not caught_up)
                cursor, caught_up = response.cursor, response.caught_up
                if items or is_news:
                    yield page(items, cursor, caught_up, restarted)
        except RegisterError as error:
            if error.reason == "FEED_RESET" and cursor:
                cursor = ""
            elif isinstance(error, BrokenAnswer) or error.reason == "FEED_RESET":
                broken += 1
                if broken == _MOST_BROKEN_IN_A_ROW:
                    raise
            elif not is_cut(error):
                raise
            failures += 1
            line.wait(delay_after(failures, error, longest_delay))


def _latest(items: Iterable[Item]) -> tuple[Item, ...]:
    """Each once, as of its highest change number, in the order of these."""
    latest: dict[str, Item] = {}
    for item in sorted(items, key=lambda item: item.change_number):
        latest.pop(item.identifier, None)
        latest[item.identifier] = item
    return tuple(latest.values())
