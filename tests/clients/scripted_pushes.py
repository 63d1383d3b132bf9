"""A register that takes events on a real socket, fails as it is told to, and is right otherwise."""

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from krr.v1 import mailbox_operator_service_pb2 as pb

from tests.clients.scripted_register import Act, right

# Events are committed in groups, each of which is acknowledged in a message.
GROUP = 100


def loses_an_answer(then: Act) -> Act:
    """What comes next is done, but not acknowledged; then the fault."""

    def act(responses: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        next(responses)
        yield from then(responses, context)

    return act


class ScriptedPushes:
    """Serves PushEvents; each stream acts as the next of `acts`.

    applied: the ids of events in the order in which they were first done.
    sizes: events and bytes of each message.
    streams: how many there were.
    """

    def __init__(self) -> None:
        self.acts: deque[Act] = deque()
        self.applied: list[str] = []
        self.sizes: list[tuple[int, int]] = []
        self.streams = 0
        self._known: dict[str, int] = {}
        self._lock = threading.Lock()
        self._server: grpc.Server | None = None
        self.port = 0

    def start(self) -> None:
        """Serve."""
        # As much as the register takes in a message.
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 4 * 1024 * 1024)]
        self._server = grpc.server(ThreadPoolExecutor(20), options=options)
        handler = grpc.stream_stream_rpc_method_handler(
            self._push, pb.PushEventsRequest.FromString, _serialized
        )
        service = grpc.method_handlers_generic_handler(
            "krr.v1.MailboxOperatorService", {"PushEvents": handler}
        )
        self._server.add_generic_rpc_handlers((service,))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def end(self) -> None:
        """Stop serving, at once."""
        if self._server:
            self._server.stop(None).wait()
            self._server = None

    def _push(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        self.streams += 1
        act = self.acts.popleft() if self.acts else right
        return act(self._responses(requests), context)

    def _responses(self, requests: Iterator[Any]) -> Iterator[pb.PushEventsResponse]:
        for request in requests:
            self.sizes.append((len(request.events), request.ByteSize()))
            for start in range(0, len(request.events), GROUP):
                with self._lock:
                    done = list(map(self._acknowledged, request.events[start : start + GROUP]))
                yield pb.PushEventsResponse(acknowledgements=done)

    def _acknowledged(self, event: Any) -> pb.EventAcknowledgement:
        duplicate = event.event_id in self._known
        if not duplicate:
            self.applied.append(event.event_id)
            self._known[event.event_id] = len(self.applied)
        answer = pb.MailboxAnswer(
            result=pb.MAILBOX_RESULT_OK, change_number=self._known[event.event_id], duplicate=duplicate
        )
        return pb.EventAcknowledgement(event_id=event.event_id, answer=answer)


def _serialized(response: Any) -> bytes:
    return response if isinstance(response, bytes) else bytes(response.SerializeToString())
