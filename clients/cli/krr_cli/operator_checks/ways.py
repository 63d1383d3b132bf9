"""The two ways an event goes to the register: a call of its own, or a stream."""

import queue
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import grpc
from krr.v1 import mailbox_event_pb2 as event_pb
from krr.v1 import mailbox_operator_service_pb2 as pb
from krr.v1.mailbox_operator_service_pb2_grpc import MailboxOperatorServiceStub
from krr_client import RegisterError
from krr_client.cuts import next_response

from krr_cli.operator_checks.surprise import Surprise, expect
from krr_cli.show import name

# Sends events in order, and gives the answer to each.
Way = Callable[[Sequence[event_pb.MailboxEvent]], list[pb.MailboxAnswer]]

SILENCE_SECONDS = 30.0

# What a call refuses with a status and a stream answers; the status is of the contract's table.
_RESULT_OF_STATUS = {
    grpc.StatusCode.ALREADY_EXISTS: pb.MAILBOX_RESULT_EVENT_ID_REUSED,
    grpc.StatusCode.INVALID_ARGUMENT: pb.MAILBOX_RESULT_INVALID_EVENT,
}


def by_calls(
    stub: MailboxOperatorServiceStub, events: Sequence[event_pb.MailboxEvent]
) -> list[pb.MailboxAnswer]:
    """Each in a call of its own, one after the other.

    A call that is refused with ALREADY_EXISTS or INVALID_ARGUMENT counts as answered
    EVENT_ID_REUSED or INVALID_EVENT, as a stream answers it. Raises RegisterError for others.
    """
    return [by_call(stub, event) for event in events]


def by_call(stub: MailboxOperatorServiceStub, event: event_pb.MailboxEvent) -> pb.MailboxAnswer:
    """The answer to one event, as by_calls() gives it."""
    call, request = unary(stub, event)
    try:
        answer: pb.MailboxAnswer = call(request).answer
    except RegisterError as error:
        if error.status not in _RESULT_OF_STATUS:
            raise
        return pb.MailboxAnswer(result=_RESULT_OF_STATUS[error.status])
    return _sound(answer)


def unary(stub: MailboxOperatorServiceStub, event: event_pb.MailboxEvent) -> tuple[Any, Any]:
    """The call that an event has of its own, and its request."""
    operation = event.WhichOneof("operation")
    named: dict[str, Any] = {
        "event_id": event.event_id,
        "identifier": event.identifier,
        "details": event.details,
    }
    if operation == "choose":
        return stub.ChooseMailbox, pb.MailboxOperatorServiceChooseMailboxRequest(**named)
    if operation == "delete":
        return stub.DeleteMailbox, pb.DeleteMailboxRequest(**named)
    content = getattr(event, operation or "create")
    named |= {"address": content.address, "certificate": content.certificate}
    if operation == "create":
        return stub.CreateMailbox, pb.CreateMailboxRequest(**named)
    if operation == "update":
        return stub.UpdateMailbox, pb.UpdateMailboxRequest(**named)
    return stub.CreateAndChooseMailbox, pb.CreateAndChooseMailboxRequest(**named)


def by_stream(
    stub: MailboxOperatorServiceStub, events: Sequence[event_pb.MailboxEvent]
) -> list[pb.MailboxAnswer]:
    """All in one message of a stream that ends after them. Raises RegisterError and Surprise."""
    stream = Stream(stub)
    try:
        stream.send(events)
        return stream.end()
    finally:
        stream.cut()


class Stream:
    """One call of PushEvents, in the hands of who wants to cut it."""

    def __init__(self, stub: MailboxOperatorServiceStub) -> None:
        # gRPC reads messages in a thread of its own, until the None.
        self._messages: queue.SimpleQueue[pb.PushEventsRequest | None] = queue.SimpleQueue()
        self._call = stub.PushEvents(iter(self._messages.get, None))
        self._sent: list[str] = []
        self.answers: list[pb.MailboxAnswer] = []

    def send(self, events: Iterable[event_pb.MailboxEvent]) -> None:
        """Send them in one message."""
        message = pb.PushEventsRequest(events=events)
        self._sent.extend(event.event_id for event in message.events)
        self._messages.put(message)

    def receive(self, count: int) -> None:
        """Wait until so many events of the stream are answered, in `answers`.

        Raises RegisterError where the stream ends before, and Surprise where the
        acknowledgements are not those of the events, in their order.
        """
        while len(self.answers) < count:
            self._take(next_response(self._call, SILENCE_SECONDS))

    def end(self) -> list[pb.MailboxAnswer]:
        """Say that no more comes; returns the answers to all that was sent. Raises as receive() does."""
        self._messages.put(None)
        self.receive(len(self._sent))
        try:
            self._take(next_response(self._call, SILENCE_SECONDS))
        except RegisterError:
            if self._call.code() is not grpc.StatusCode.OK:
                raise
        return self.answers

    def cut(self) -> None:
        """Let go of the call, wherever it is."""
        self._messages.put(None)
        self._call.cancel()

    def _take(self, response: pb.PushEventsResponse) -> None:
        for acknowledgement in response.acknowledgements:
            place = len(self.answers)
            if place == len(self._sent):
                raise Surprise(f"{place} acknowledgements for {place} events", "one more")
            if acknowledgement.event_id != self._sent[place]:
                raise Surprise(
                    f"the id of event {place + 1} of the stream in acknowledgement {place + 1}", "another id"
                )
            self.answers.append(_sound(acknowledgement.answer))


def _sound(answer: pb.MailboxAnswer) -> pb.MailboxAnswer:
    """The answer, where it says of itself what every answer must. Raises Surprise."""
    if answer.result not in pb.MailboxResult.values() or not answer.result:
        raise Surprise("an answer with a result of the contract", f"result {answer.result}")
    ok = answer.result == pb.MAILBOX_RESULT_OK
    result = name(pb.MailboxResult, answer.result)
    for field, is_there in (
        ("change number", answer.change_number > 0),
        ("freshness token", bool(answer.freshness_token)),
    ):
        expect(
            f"an answer {result}",
            f"{'a' if ok else 'no'} {field}",
            f"{'a' if is_there else 'no'} {field}",
        )
    return answer
