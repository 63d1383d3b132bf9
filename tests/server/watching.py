"""Callers who watch: each page as it comes, and how it ended."""

import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import grpc
from krr.v1 import mailbox_operator_service_pb2, register_service_pb2

from tests.server.rpcs import Outcome, Rpcs, outcome_of
from tests.server.valid_requests import AT_DIGIPOST, PUBLIC


class Watch:
    """A call that streams, read as fast as it comes."""

    def __init__(self, rpcs: Rpcs, rpc: str, requests: Iterable[Any], caller: str, **options: Any) -> None:
        self._call = rpcs.stream(rpc, requests, caller, **options)
        self._came: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def page(self, within: float = 5) -> Any:
        """The next page; fails where there is none in time, or the call ended."""
        came = self._came.get(timeout=within)
        assert not isinstance(came, Outcome), f"ended: {came.code.name} {came.reason}"
        return came

    def no_page(self, within: float) -> bool:
        """Whether nothing comes for so long, not even the end."""
        try:
            self._came.get(timeout=within)
        except queue.Empty:
            return True
        return False

    def pages_until_caught_up(self) -> list[Any]:
        """The next pages, up to the first that says so."""
        pages = [self.page()]
        while not pages[-1].caught_up:
            pages.append(self.page())
        return pages

    def outcome(self, within: float = 5) -> Outcome:
        """How the call ended; pages before are passed over."""
        ends = time.monotonic() + within
        while True:
            came = self._came.get(timeout=max(0.0, ends - time.monotonic()))
            if isinstance(came, Outcome):
                return came

    def cancel(self) -> None:
        self._call.cancel()

    def _read(self) -> None:
        try:
            for response in self._call:
                self._came.put(response)
            self._came.put(Outcome(grpc.StatusCode.OK))
        except grpc.RpcError as error:
            self._came.put(outcome_of(error))


def look_up(*identifiers: str, fresh: str = "") -> register_service_pb2.LookUpPersonsStreamRequest:
    """A request of a streamed look-up."""
    return register_service_pb2.LookUpPersonsStreamRequest(
        identifiers=identifiers, purpose=register_service_pb2.PURPOSE_NOTICE, at_least_as_fresh=fresh
    )


class Talk:
    """A streamed look-up whose requests are sent one by one."""

    def __init__(self, rpcs: Rpcs) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.watch = Watch(
            rpcs, "RegisterService/LookUpPersonsStream", iter(self._requests.get, None), PUBLIC
        )

    def ask(self, *identifiers: str, **fields: Any) -> None:
        self._requests.put(look_up(*identifiers, **fields))

    def close(self) -> None:
        """Send no more."""
        self._requests.put(None)


def watch_changes(rpcs: Rpcs, after_cursor: str = "", page_size: int = 0, **options: Any) -> Watch:
    """Watch the change feed."""
    request = register_service_pb2.WatchChangesRequest(after_cursor=after_cursor, page_size=page_size)
    return Watch(rpcs, "RegisterService/WatchChanges", [request], PUBLIC, **options)


def watch_mailboxes(
    rpcs: Rpcs, operator: str = AT_DIGIPOST, after_cursor: str = "", page_size: int = 0
) -> Watch:
    """Watch an operator's mailboxes."""
    request = mailbox_operator_service_pb2.WatchMailboxesRequest(
        after_cursor=after_cursor, page_size=page_size
    )
    return Watch(rpcs, "MailboxOperatorService/WatchMailboxes", [request], operator)


def wait_until(true: Callable[[], bool], within: float, what: str) -> None:
    """Pass when it is true; fail after so many seconds."""
    ends = time.monotonic() + within
    while not true():
        assert time.monotonic() < ends, f"not within {within} seconds: {what}"
        time.sleep(0.01)
