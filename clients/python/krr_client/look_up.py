"""Looking up any number of persons."""

import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import grpc
from krr.v1 import register_service_pb2 as pb
from krr.v1.register_service_pb2_grpc import RegisterServiceStub

from krr_client.cuts import delay_after, is_cut, next_response
from krr_client.errors import BrokenAnswer, RegisterError

_PER_REQUEST = 1000
# Enough to keep the server busy while an answer is on its way; what waits is held in memory.
_MOST_UNANSWERED = 4


def look_up_persons(
    channel: grpc.Channel,
    identifiers: Iterable[str],
    *,
    purpose: "pb.Purpose.ValueType",
    at_least_as_fresh: str = "",
    on_progress: Callable[[int], None] | None = None,
    give_up_after: float = 60.0,
    silence: float = 30.0,
    longest_delay: float = 10.0,
) -> Iterator[pb.LookUpEntry]:
    """Look up any number of persons: one entry for each identifier, in that order.

    channel: from connect().
    identifiers: read as answers come, some thousands ahead of them, in the thread that
        iterates; may be a generator of millions.
    at_least_as_fresh: a freshness token that every answer must see.
    on_progress: called with the number of identifiers answered so far.
    give_up_after: seconds after a first failure in which no answer came at all.
    silence: seconds to wait for an answer before the stream counts as cut off.
    longest_delay: seconds between attempts, at most (unless the register asks for more).

    Where the stream is cut off, what was not answered is asked again. Raises the last
    RegisterError when no answer came for `give_up_after` seconds, and at once where another
    attempt would end the same way; BrokenAnswer where the register answered something else
    than it was asked. What was handed over by then is right.

    Close the iterator to end early.
    """
    source = iter(identifiers)
    unanswered: deque[list[str]] = deque()
    answered = failures = 0
    failing_since = 0.0
    stream: _Stream | None = None
    try:
        while True:
            while len(unanswered) < _MOST_UNANSWERED and (batch := list(islice(source, _PER_REQUEST))):
                unanswered.append(batch)
            if not unanswered:
                break
            stream = stream or _Stream(channel, purpose, at_least_as_fresh, silence)
            stream.ask(unanswered)
            try:
                entries = stream.answer(unanswered[0])
            except RegisterError as error:
                stream.cancel()
                stream = None
                if not failures:
                    failing_since = time.monotonic()
                failures += 1
                delay = delay_after(failures, error, longest_delay)
                if not is_cut(error) or time.monotonic() + delay > failing_since + give_up_after:
                    raise
                time.sleep(delay)
                continue
            failures = 0
            unanswered.popleft()
            answered += len(entries)
            if on_progress:
                on_progress(answered)
            yield from entries
        if stream:
            stream.end()
    finally:
        if stream:
            stream.cancel()


class _Stream:
    def __init__(
        self,
        channel: grpc.Channel,
        purpose: "pb.Purpose.ValueType",
        at_least_as_fresh: str,
        silence: float,
    ) -> None:
        self._purpose = purpose
        self._at_least_as_fresh = at_least_as_fresh
        self._silence = silence
        self._unanswered = 0
        # gRPC reads requests in a thread of its own, until the None.
        self._requests: queue.SimpleQueue[pb.LookUpPersonsStreamRequest | None] = queue.SimpleQueue()
        self._call = RegisterServiceStub(channel).LookUpPersonsStream(iter(self._requests.get, None))

    def ask(self, batches: deque[list[str]]) -> None:
        """Ask for those of the batches that were not asked for on this stream."""
        for batch in islice(batches, self._unanswered, None):
            self._requests.put(
                pb.LookUpPersonsStreamRequest(
                    identifiers=batch, purpose=self._purpose, at_least_as_fresh=self._at_least_as_fresh
                )
            )
            self._unanswered += 1

    def answer(self, batch: list[str]) -> list[pb.LookUpEntry]:
        """The entries of the batch that was asked for first. Raises RegisterError."""
        entries = list(next_response(self._call, self._silence).entries)
        if [entry.requested_identifier for entry in entries] != batch:
            raise BrokenAnswer("the entries are not those that were asked for")
        if any(entry.WhichOneof("outcome") is None for entry in entries):
            raise BrokenAnswer("an entry has neither person nor refusal")
        self._unanswered -= 1
        return entries

    def end(self) -> None:
        """Let the call end well, once all is answered."""
        self._requests.put(None)
        try:
            next_response(self._call, self._silence)
        except RegisterError:
            return
        raise BrokenAnswer("an answer to nothing that was asked for")

    def cancel(self) -> None:
        self._requests.put(None)
        self._call.cancel()
