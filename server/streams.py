"""Calls that hold a thread for as long as their caller likes: counted, capped, watched."""

import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import grpc

from server.domain.errors import Reason, Refusal

# Beyond the cap, for those who are told that it is reached and for calls that hold nothing.
_RESERVED_THREADS = 8
_LOOK_EVERY_SECONDS = 1.0
# When the server ends: whoever sends nothing for so long has no request under way.
_LAST_REQUEST_SECONDS = 1.0
_LOOK_AT_THE_END_EVERY_SECONDS = 0.02

Message = TypeVar("Message")


class Stream:
    """One such call. It waits either for the register or for its peer: to send the next
    request, or to take the last response.

    ended: set when the server ends.
    """

    def __init__(self, context: grpc.ServicerContext, ended: threading.Event) -> None:
        self._context = context
        self._ended = ended
        self._waits_since: float | None = None
        self.awaits_request = False

    def requests(self, requests: Iterable[Message]) -> Iterator[Message]:
        """The requests; while the next one is awaited, the stream waits for its peer.

        Raises Refusal: SERVER_ENDING, for a request that comes later.
        """
        iterator = iter(requests)
        while True:
            self._waits_since, self.awaits_request = time.monotonic(), True
            try:
                request = next(iterator)
            except StopIteration:
                return
            finally:
                self._waits_since, self.awaits_request = None, False
            if self._ended.is_set():
                raise Refusal(Reason.SERVER_ENDING)
            yield request

    def responses(self, responses: Iterable[Message]) -> Iterator[Message]:
        """The responses; while one is being taken, the stream waits for its peer."""
        for response in responses:
            self._waits_since = time.monotonic()
            yield response
            self._waits_since = None

    def cut_off_after(self, seconds: float) -> None:
        """End the call at once, which frees its thread, if it has waited for its peer for so long."""
        since = self._waits_since
        if since is not None and time.monotonic() - since >= seconds:
            self._context.cancel()


class Streams:
    """All such calls of this process.

    limit: how many at once; more are refused with TOO_MANY_STREAMS.
    stall_seconds: one whose peer neither sends nor takes anything for so long is cut off.

    They run on `pool`, so that they take no thread from other calls.
    """

    def __init__(self, limit: int, stall_seconds: float) -> None:
        self._limit = limit
        self._stall_seconds = stall_seconds
        self._lock = threading.Lock()
        self._open: set[Stream] = set()
        self._ended = threading.Event()
        self.pool = ThreadPoolExecutor(limit + _RESERVED_THREADS, thread_name_prefix="stream")
        self._watchdog = threading.Thread(target=self._watch, name="stream-watchdog", daemon=True)

    def start(self) -> None:
        """Watch in the background until end()."""
        self._watchdog.start()

    def end(self) -> None:
        """Refuse new ones and further requests, and cut off those that send none.

        Returns when none waits for a request; those that wait for changes end themselves.
        """
        self._ended.set()
        self._watchdog.join()
        while awaiting := [stream for stream in self._snapshot() if stream.awaits_request]:
            for stream in awaiting:
                stream.cut_off_after(_LAST_REQUEST_SECONDS)
            time.sleep(_LOOK_AT_THE_END_EVERY_SECONDS)

    @contextmanager
    def hold(self, context: grpc.ServicerContext) -> Iterator[Stream]:
        """Count the call in while it holds its thread.

        Raises Refusal: TOO_MANY_STREAMS or SERVER_ENDING.
        """
        stream = Stream(context, self._ended)
        with self._lock:
            if self._ended.is_set():
                raise Refusal(Reason.SERVER_ENDING)
            if len(self._open) >= self._limit:
                raise Refusal(Reason.TOO_MANY_STREAMS)
            self._open.add(stream)
        try:
            yield stream
        finally:
            with self._lock:
                self._open.discard(stream)

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_EVERY_SECONDS):
            for stream in self._snapshot():
                stream.cut_off_after(self._stall_seconds)

    def _snapshot(self) -> list[Stream]:
        with self._lock:
            return list(self._open)
