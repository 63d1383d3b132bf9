"""A register on a real socket that fails as it is told to, and is right otherwise."""

import itertools
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from krr.v1 import admin_service_pb2, person_import_pb2, person_pb2
from krr.v1 import citizen_service_pb2 as citizen_pb
from krr.v1 import mailbox_operator_service_pb2 as operator_pb
from krr.v1 import register_service_pb2 as pb

HEARTBEAT_SECONDS = 0.02

# What a call does to the right responses.
Act = Callable[[Iterator[Any], grpc.ServicerContext], Iterator[Any]]


def right(responses: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
    """Nothing goes wrong."""
    yield from responses


def after(count: int, fault: Act) -> Act:
    """So many right responses, then the fault."""

    def act(responses: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        yield from itertools.islice(responses, count)
        yield from fault(responses, context)

    return act


def ends(responses: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
    """The stream ends with status OK."""
    yield from ()


def is_silent(responses: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
    """Nothing more comes, until the client goes."""
    gone = threading.Event()
    if context.add_callback(gone.set):
        gone.wait()
    yield from ()


def crashes(responses: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
    """A fault that gRPC makes UNKNOWN of."""
    raise RuntimeError("scripted")
    yield  # a generator, though nothing is ever yielded


def sends_garbage(responses: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
    """Bytes that are no message: INTERNAL, made by the client's own gRPC."""
    yield b"\xff\xff\xff"
    yield from responses


def refuses(
    status: grpc.StatusCode, reason: str = "", *, retry_after: float | None = None, domain: str = "krr.v1"
) -> Act:
    """The call is refused as the register does it, or with a bare status where there is no reason."""
    details: list[Message] = []
    if reason:
        details.append(error_details_pb2.ErrorInfo(reason=reason, domain=domain))
    if retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(retry_after * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = [any_pb2.Any() for _ in details]
    for each, detail in zip(packed, details, strict=True):
        each.Pack(detail)
    rich = rpc_status.to_status(
        status_pb2.Status(code=status.value[0], message=f"scripted {reason}", details=packed)
    )

    def act(responses: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        if details:
            context.abort_with_status(rich)
        context.abort(status, "scripted")
        yield

    return act


def refuses_unreadably(responses: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
    """UNAVAILABLE with details that nobody can read."""
    context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff\xff"),))
    context.abort(grpc.StatusCode.UNAVAILABLE, "scripted")
    yield


def alters(change: Callable[[Any], Any]) -> Act:
    """The next response is changed; the stream goes on after it."""

    def act(responses: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        yield change(next(responses))
        yield from responses

    return act


def adds(*more: Message) -> Act:
    """Responses come in between."""

    def act(responses: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        yield from more
        yield from responses

    return act


class ScriptedRegister:
    """Serves a feed of pages, look-ups and one write; each call acts as the next of `acts`.

    calls: the request of each call so far; a stream's as it began.
    contexts: the context of each call so far.
    """

    def __init__(self, pages: Iterable[list[person_pb2.Person]] = (), *, acts: Iterable[Act] = ()) -> None:
        self.pages = list(pages)
        self.epoch = 1
        self.acts = deque(acts)
        self.calls: list[Any] = []
        self.contexts: list[grpc.ServicerContext] = []
        self.seconds_left: list[float] = []
        self._ending = threading.Event()
        self._server: grpc.Server | None = None
        self.port = 0

    def start(self) -> None:
        """Serve; on the port of before, where there was one."""
        self._ending.clear()
        self._server = grpc.server(ThreadPoolExecutor(20), options=[("grpc.so_reuseport", 0)])
        for service, method, kind, call in (
            ("krr.v1.RegisterService", "LookUpPersons", grpc.unary_unary_rpc_method_handler, self._look_up),
            (
                "krr.v1.RegisterService",
                "LookUpPersonsStream",
                grpc.stream_stream_rpc_method_handler,
                self._look_up_stream,
            ),
            ("krr.v1.RegisterService", "WatchChanges", grpc.unary_stream_rpc_method_handler, self._watch),
            ("krr.v1.CitizenService", "Reserve", grpc.unary_unary_rpc_method_handler, self._reserve),
            (
                "krr.v1.MailboxOperatorService",
                "WatchMailboxes",
                grpc.unary_stream_rpc_method_handler,
                self._watch_mailboxes,
            ),
            ("krr.v1.AdminService", "ImportPersons", grpc.stream_unary_rpc_method_handler, self._import),
        ):
            make: Any = kind
            handler = make(call, _REQUESTS[method].FromString, _serialized)
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service, {method: handler}),)
            )
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def end(self, grace: float | None = None) -> None:
        """Stop serving: at once, or as a server that is replaced does."""
        self._ending.set()
        if self._server:
            self._server.stop(grace).wait()
            self._server = None

    def commit(self, *persons: person_pb2.Person) -> None:
        """Let a page come about."""
        self.pages.append(list(persons))

    def restore(self, pages: Iterable[list[person_pb2.Person]]) -> None:
        """Have another history: every cursor given before is refused with FEED_RESET."""
        self.pages = list(pages)
        self.epoch += 1

    def _begin(self, request: Any, context: grpc.ServicerContext) -> Act:
        self.calls.append(request)
        self.contexts.append(context)
        self.seconds_left.append(context.time_remaining() or 0.0)
        return self.acts.popleft() if self.acts else right

    def _watch(self, request: pb.WatchChangesRequest, context: grpc.ServicerContext) -> Iterator[Any]:
        return self._begin(request, context)(
            self._feed(request.after_cursor, context, pb.WatchChangesResponse, "persons"), context
        )

    def _watch_mailboxes(
        self, request: operator_pb.WatchMailboxesRequest, context: grpc.ServicerContext
    ) -> Iterator[Any]:
        return self._begin(request, context)(
            self._feed(request.after_cursor, context, operator_pb.WatchMailboxesResponse, "mailboxes"),
            context,
        )

    def _feed(self, cursor: str, context: grpc.ServicerContext, response: Any, field: str) -> Iterator[Any]:
        epoch, position = map(int, cursor.split("-")) if cursor else (self.epoch, 0)
        if epoch != self.epoch:
            yield from refuses(grpc.StatusCode.FAILED_PRECONDITION, "FEED_RESET")(iter(()), context)
        is_first = True
        while context.is_active() and not self._ending.is_set() and epoch == self.epoch:
            items: list[Any] = []
            if position < len(self.pages):
                items = self.pages[position]
                position += 1
                if field == "mailboxes":
                    items = [
                        operator_pb.HeldMailbox(identifier=p.identifier, change_number=p.change_number)
                        for p in items
                    ]
            elif not is_first:
                self._ending.wait(HEARTBEAT_SECONDS)
            is_first = False
            caught_up = position == len(self.pages)
            yield response(**{field: items}, cursor=f"{epoch}-{position}", caught_up=caught_up)
        refusal = ("SERVER_ENDING", grpc.StatusCode.UNAVAILABLE)
        if epoch != self.epoch:
            refusal = ("FEED_RESET", grpc.StatusCode.FAILED_PRECONDITION)
        yield from refuses(refusal[1], refusal[0])(iter(()), context)

    def _look_up(self, request: pb.LookUpPersonsRequest, context: grpc.ServicerContext) -> Any:
        act = self._begin(request, context)
        answer = pb.LookUpPersonsResponse(entries=map(entry, request.identifiers))
        return next(act(iter([answer]), context))

    def _look_up_stream(
        self, requests: Iterator[pb.LookUpPersonsStreamRequest], context: grpc.ServicerContext
    ) -> Iterator[Any]:
        answers = (
            pb.LookUpPersonsStreamResponse(entries=map(entry, request.identifiers)) for request in requests
        )
        return self._begin(requests, context)(answers, context)

    def _reserve(self, request: citizen_pb.ReserveRequest, context: grpc.ServicerContext) -> Any:
        act = self._begin(request, context)
        return next(act(iter([citizen_pb.ReserveResponse()]), context))

    def _import(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
        act = self._begin(requests, context)
        return next(act(iter([person_import_pb2.ImportPersonsResponse()]), context))


_REQUESTS: dict[str, Any] = {
    "LookUpPersons": pb.LookUpPersonsRequest,
    "LookUpPersonsStream": pb.LookUpPersonsStreamRequest,
    "WatchChanges": pb.WatchChangesRequest,
    "Reserve": citizen_pb.ReserveRequest,
    "WatchMailboxes": operator_pb.WatchMailboxesRequest,
    "ImportPersons": admin_service_pb2.ImportPersonsRequest,
}


def _serialized(response: Any) -> bytes:
    return response if isinstance(response, bytes) else bytes(response.SerializeToString())


def entry(identifier: str) -> pb.LookUpEntry:
    """What the scripted register knows of anybody."""
    return pb.LookUpEntry(
        requested_identifier=identifier,
        person=person_pb2.Person(identifier=identifier, change_number=int(identifier) % 1000),
    )


class Wire:
    """A wire between a client and a server on this machine that can be cut, frozen and torn out."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._lock = threading.Lock()
        self._ends: list[socket.socket] = []
        self._is_frozen = threading.Event()
        self._listener: socket.socket | None = None
        self.port = 0
        self.connections = 0

    def plug_in(self) -> None:
        """Take connections; on the port of before, where there was one."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def tear_out(self) -> None:
        """Cut, and refuse connections."""
        if self._listener:
            # A thread that waits in accept() keeps a closed socket listening.
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.cut()

    def cut(self) -> None:
        """Reset every connection there is."""
        with self._lock:
            ends, self._ends = self._ends, []
        for end in ends:
            with suppress(OSError):
                # Linger 0: closing sends RST, not FIN.
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RD)
            end.close()
        self._is_frozen.clear()

    def freeze(self) -> None:
        """Pass nothing on, and close nothing, until the next cut."""
        self._is_frozen.set()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._server_port))
                except OSError:
                    # No server now; there may be one later.
                    client.close()
                    continue
                with self._lock:
                    self._ends += [client, server]
                    self.connections += 1
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not self._is_frozen.is_set():
                    target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)
