"""A channel to the register: deadlines, retries, request ids, refusals as exceptions."""

import contextlib
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import Message

from krr_client.errors import RegisterError

# Seconds; longer than any stream that makes headway should need, and still an end.
STREAM_TIMEOUT = 3600.0

# Service and name of each call that streams its requests, its answers or both.
STREAMS = (
    ("krr.v1.RegisterService", "LookUpPersonsStream"),
    ("krr.v1.RegisterService", "WatchChanges"),
    ("krr.v1.MailboxOperatorService", "PushEvents"),
    ("krr.v1.MailboxOperatorService", "WatchMailboxes"),
    ("krr.v1.AdminService", "ImportPersons"),
)

# Only UNAVAILABLE is retried: nothing else promises that a second attempt is judged
# differently. Every write carries a request id, so a repeated one takes effect once.
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        },
        # Streams have rules of their own for going on. gRPC would retry their first attempt only,
        # and grpcio 1.85 can lose a call that is cancelled meanwhile: its reader waits for ever.
        {"name": [{"service": service, "method": method} for service, method in STREAMS]},
    ],
    # When half of the calls fail, retries stop: they would only add to the load.
    "retryThrottling": {"maxTokens": 50, "tokenRatio": 0.5},
}

_OPTIONS = [
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # A peer that vanished without a word is noticed within a minute of a call. The register
    # cuts off who pings more often than every 30 seconds.
    ("grpc.keepalive_time_ms", 45_000),
    ("grpc.keepalive_timeout_ms", 15_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
]

_ID_FIELDS = ("request_id", "event_id")


def connect(address: str, credential: str, *, timeout: float = 10.0) -> grpc.Channel:
    """Open a channel to the register at `address` ("host:port"). Close it when done.

    credential: value of the "authorization" metadata entry, sent with each call.
    timeout: seconds; the deadline of each call that names none of its own (`timeout=`).
        A call that streams has an hour.

    Calls through the channel raise RegisterError, a stream from its iteration. A call that
    ends UNAVAILABLE is tried up to 4 times, within its deadline; nothing else is, and no
    stream. A call on a closed channel raises ValueError.

    An empty request_id or event_id is filled with a fresh UUID, in the request object
    itself: whoever sends the same object again repeats the intention, and it takes effect
    once. Make a new request for a new intention.

    The channel lets through what OpenTelemetry traces of gRPC do. Leave out calls that
    stream responses there (filters.negate): their traces cannot be cancelled.
    """
    channel = _ClosableChannel(grpc.insecure_channel(address, options=_OPTIONS))
    return grpc.intercept_channel(channel, _EveryCall(credential, timeout))


class _ClosableChannel(grpc.Channel):
    """Raises ValueError for a call after close().

    gRPC's own channel ends the process with a segmentation fault where a method is looked up
    on a closed channel (grpcio 1.85; github.com/grpc/grpc/pull/43455), and an intercepted
    channel looks it up for each call.
    """

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._is_closed = False

    def subscribe(self, *arguments: Any, **named: Any) -> None:
        self._channel.subscribe(*arguments, **named)

    def unsubscribe(self, *arguments: Any, **named: Any) -> None:
        self._channel.unsubscribe(*arguments, **named)

    def unary_unary(self, *arguments: Any) -> Any:
        return self._looked_up(self._channel.unary_unary, arguments)

    def unary_stream(self, *arguments: Any) -> Any:
        return self._looked_up(self._channel.unary_stream, arguments)

    def stream_unary(self, *arguments: Any) -> Any:
        return self._looked_up(self._channel.stream_unary, arguments)

    def stream_stream(self, *arguments: Any) -> Any:
        return self._looked_up(self._channel.stream_stream, arguments)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
        self._channel.close()

    def __enter__(self) -> "_ClosableChannel":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _looked_up(self, look_up: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        with self._lock:
            if self._is_closed:
                raise ValueError("the channel is closed")
            return look_up(*arguments)


class _CallDetails(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class _Details(_CallDetails, grpc.ClientCallDetails):
    pass


class _EveryCall(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    def __init__(self, credential: str, timeout: float) -> None:
        self._credential = credential
        self._timeout = timeout

    def intercept_unary_unary(
        self, continuation: Callable[..., Any], details: grpc.ClientCallDetails, request: Any
    ) -> Any:
        _fill_request_id(request)
        return _Call(continuation(self._filled(details, self._timeout), request))

    def intercept_unary_stream(
        self, continuation: Callable[..., Any], details: grpc.ClientCallDetails, request: Any
    ) -> Any:
        _fill_request_id(request)
        return _Call(continuation(self._filled(details, STREAM_TIMEOUT), request))

    def intercept_stream_unary(
        self, continuation: Callable[..., Any], details: grpc.ClientCallDetails, requests: Any
    ) -> Any:
        return _Call(continuation(self._filled(details, STREAM_TIMEOUT), requests))

    def intercept_stream_stream(
        self, continuation: Callable[..., Any], details: grpc.ClientCallDetails, requests: Any
    ) -> Any:
        return _Call(continuation(self._filled(details, STREAM_TIMEOUT), requests))

    def _filled(self, details: grpc.ClientCallDetails, timeout: float) -> _Details:
        return _Details(
            method=details.method,
            timeout=timeout if details.timeout is None else details.timeout,
            metadata=[*(details.metadata or ()), ("authorization", self._credential)],
            credentials=details.credentials,
            wait_for_ready=details.wait_for_ready,
            compression=details.compression,
        )


def _fill_request_id(request: Message) -> None:
    for name in _ID_FIELDS:
        if name in request.DESCRIPTOR.fields_by_name and not getattr(request, name):
            setattr(request, name, str(uuid.uuid4()))


class _Call:
    """gRPC's own call, but that its refusal is a RegisterError."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def __iter__(self) -> "_Call":
        return self

    def __next__(self) -> Any:
        with _refusals():
            return next(self._call)

    def result(self, timeout: float | None = None) -> Any:
        with _refusals():
            return self._call.result(timeout)

    def exception(self, timeout: float | None = None) -> Exception | None:
        failure = self._call.exception(timeout)
        return RegisterError.of(failure) if isinstance(failure, grpc.RpcError) else failure

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._call.add_done_callback(lambda _: callback(self))

    def cancel(self) -> Any:
        if hasattr(self._call, "cancel"):
            return self._call.cancel()
        # What traces make of a call that streams responses: a generator, which cannot be
        # closed while another thread waits in it. It then ends by its deadline.
        with contextlib.suppress(ValueError):
            self._call.close()
        return True


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise RegisterError.of(error) from None
