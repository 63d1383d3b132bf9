"""Operators that push events over a stream."""

import queue
from collections.abc import Iterable
from typing import Any

from krr.v1 import mailbox_event_pb2
from krr.v1 import mailbox_operator_service_pb2 as pb

from tests.server.rpcs import Rpcs
from tests.server.valid_requests import AT_DIGIPOST
from tests.server.watching import Watch

PUSH = "MailboxOperatorService/PushEvents"


class Push:
    """A stream whose messages are sent one by one."""

    def __init__(self, rpcs: Rpcs, caller: str = AT_DIGIPOST) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.watch = Watch(rpcs, PUSH, iter(self._requests.get, None), caller, timeout=60)

    def send(self, *events: mailbox_event_pb2.MailboxEvent) -> None:
        self._requests.put(pb.PushEventsRequest(events=events))

    def close(self) -> None:
        """Send no more."""
        self._requests.put(None)

    def acknowledgements(self, count: int) -> list[pb.EventAcknowledgement]:
        """The next so many; fails where a message holds more."""
        found: list[pb.EventAcknowledgement] = []
        while len(found) < count:
            found += self.watch.page(within=30).acknowledgements
        assert len(found) == count
        return found


def pushed(
    rpcs: Rpcs, events: Iterable[mailbox_event_pb2.MailboxEvent], caller: str = AT_DIGIPOST
) -> list[pb.MailboxAnswer]:
    """The answers to the events, pushed in one message over a stream of their own."""
    sent = list(events)
    push = Push(rpcs, caller)
    push.send(*sent)
    push.close()
    acknowledgements = push.acknowledgements(len(sent))
    assert [each.event_id for each in acknowledgements] == [each.event_id for each in sent]
    return [each.answer for each in acknowledgements]


def result(answer: pb.MailboxAnswer) -> str:
    return pb.MailboxResult.Name(answer.result).removeprefix("MAILBOX_RESULT_")


def results(answers: Iterable[pb.MailboxAnswer]) -> str:
    """The results, one after another."""
    return " ".join(map(result, answers))
