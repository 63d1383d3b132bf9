"""Pushing any number of an operator's events."""

import queue
import time
from collections import deque
from collections.abc import Iterable, Iterator

import grpc
from krr.v1 import mailbox_event_pb2
from krr.v1 import mailbox_operator_service_pb2 as pb
from krr.v1.mailbox_operator_service_pb2_grpc import MailboxOperatorServiceStub

from krr_client.cuts import delay_after, is_cut, next_response
from krr_client.errors import BrokenAnswer, RegisterError

# The register takes 1000, and 4 MiB.
_EVENTS_PER_MESSAGE = 500
_BYTES_PER_MESSAGE = 3_000_000
# Enough to keep the register busy while an answer is on its way; what waits is held in memory.
_MOST_UNACKNOWLEDGED = 2000


def push_events(
    channel: grpc.Channel,
    events: Iterable[mailbox_event_pb2.MailboxEvent],
    *,
    give_up_after: float = 60.0,
    silence: float = 30.0,
    longest_delay: float = 10.0,
) -> Iterator[pb.EventAcknowledgement]:
    """Push any number of events: an acknowledgement for each, in that order, once it is committed.

    channel: from connect(), as an operator.
    events: read as acknowledgements come, some thousands ahead of them, in the thread that
        iterates. One that has to wait for the next event holds up acknowledgements: rather let
        it end, and push what comes later with another call. Each needs an event_id that stays
        with it: whatever has not been acknowledged is to be pushed again with the same one, also
        after a crash of your own.
    give_up_after: seconds after a first failure in which no acknowledgement came at all.
    silence: seconds to wait for an acknowledgement before the stream counts as cut off.
    longest_delay: seconds between attempts, at most (unless the register asks for more).

    Where the stream is cut off, what was not acknowledged is sent again; what had been done all the
    same is acknowledged with the first answer, as a duplicate. An event that is refused is
    acknowledged so, and raises nothing. Raises the last RegisterError when nothing was acknowledged
    for `give_up_after` seconds, and at once where another attempt would end the same way;
    BrokenAnswer where the register acknowledged something else than it was sent.

    Close the iterator to end early: what was not acknowledged may have been done.
    """
    source = _messages(events)
    unacknowledged: deque[mailbox_event_pb2.MailboxEvent] = deque()
    failures, failing_since = 0, 0.0
    stream: _Stream | None = None
    try:
        while True:
            while len(unacknowledged) < _MOST_UNACKNOWLEDGED and (message := next(source, None)):
                unacknowledged += message
                if stream:
                    stream.send(message)
            if not unacknowledged:
                break
            if stream is None:
                stream = _Stream(channel, silence)
                for message in _messages(unacknowledged):
                    stream.send(message)
            try:
                acknowledgements = stream.acknowledgements(unacknowledged)
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
            for acknowledgement in acknowledgements:
                unacknowledged.popleft()
                yield acknowledgement
        if stream:
            stream.end()
    finally:
        if stream:
            stream.cancel()


class _Stream:
    def __init__(self, channel: grpc.Channel, silence: float) -> None:
        self._silence = silence
        # gRPC reads requests in a thread of its own, until the None.
        self._requests: queue.SimpleQueue[pb.PushEventsRequest | None] = queue.SimpleQueue()
        self._call = MailboxOperatorServiceStub(channel).PushEvents(iter(self._requests.get, None))

    def send(self, events: list[mailbox_event_pb2.MailboxEvent]) -> None:
        self._requests.put(pb.PushEventsRequest(events=events))

    def acknowledgements(self, sent: deque[mailbox_event_pb2.MailboxEvent]) -> list[pb.EventAcknowledgement]:
        """Those of the events that were sent first, at least one. Raises RegisterError."""
        found = list(next_response(self._call, self._silence).acknowledgements)
        if not found or len(found) > len(sent):
            raise BrokenAnswer("other acknowledgements than of what was sent")
        if any(each.event_id != event.event_id for each, event in zip(found, sent, strict=False)):
            raise BrokenAnswer("acknowledgements in another order than what was sent")
        return found

    def end(self) -> None:
        """Let the call end well, once all is acknowledged."""
        self._requests.put(None)
        try:
            next_response(self._call, self._silence)
        except RegisterError:
            return
        raise BrokenAnswer("an acknowledgement of nothing that was sent")

    def cancel(self) -> None:
        self._requests.put(None)
        self._call.cancel()


def _messages(
    events: Iterable[mailbox_event_pb2.MailboxEvent],
) -> Iterator[list[mailbox_event_pb2.MailboxEvent]]:
    """The events in messages that the register takes."""
    message: list[mailbox_event_pb2.MailboxEvent] = []
    size = 0
    for event in events:
        more = event.ByteSize()
        if message and (len(message) == _EVENTS_PER_MESSAGE or size + more > _BYTES_PER_MESSAGE):
            yield message
            message, size = [], 0
        message.append(event)
        size += more
    if message:
        yield message
