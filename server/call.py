"""Around every call: trace, credential, policy, deadline, refusals. One interceptor."""

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from types import TracebackType
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from server import access
from server.change_counter import Waiter
from server.domain.caller import Caller
from server.domain.errors import Reason, Refusal
from server.errors import refuse
from server.streams import Streams

# No work for a call may take longer, whatever deadline it brings.
MAX_SECONDS = 10.0
# With less than this left, a call could only fail half-way.
MIN_SECONDS = 0.005

# Unary, but may be asked to wait for a change.
_MAY_WAIT = frozenset({"krr.v1.RegisterService/ListChanges", "krr.v1.MailboxOperatorService/ListMailboxes"})

_log = structlog.get_logger()
_tracer = trace.get_tracer("server")
_trace_context = TraceContextTextMapPropagator()


class Call:
    """What a service needs to know of a call.

    ends: when the caller gives up, on time.monotonic().
    """

    def __init__(self, caller: Caller, context: grpc.ServicerContext, streams: Streams) -> None:
        remaining = context.time_remaining()
        if remaining < MIN_SECONDS:
            raise Refusal(Reason.DEADLINE)
        self.caller = caller
        self.ends = time.monotonic() + remaining
        self._context = context
        self._streams = streams

    @property
    def deadline(self) -> float:
        """When work that begins now must be done, on time.monotonic()."""
        return min(self.ends, time.monotonic() + MAX_SECONDS)

    @cached_property
    def waiter(self) -> Waiter:
        """Leaves when the caller is gone."""
        waiter = Waiter()
        if not self._context.add_callback(waiter.leave):
            waiter.leave()
        return waiter

    def hold(self) -> AbstractContextManager[object]:
        """To be held while a unary call waits. Raises Refusal: TOO_MANY_STREAMS, SERVER_ENDING."""
        return self._streams.hold(self._context)


class CallInterceptor(grpc.ServerInterceptor):
    """Gives each method of krr.v1 a Call in place of gRPC's context, and turns what it
    raises into a status. Health and reflection pass through, the latter counted as a stream:
    anyone may ask.

    authenticate: from the "authorization" metadata entry to the caller.
    """

    def __init__(self, authenticate: Callable[[str | None], Caller], streams: Streams) -> None:
        self._authenticate = authenticate
        self._streams = streams
        self._handlers: dict[str, Any] = {}

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Any],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        method = handler_call_details.method
        handler = self._handlers.get(method)
        if handler is None:
            handler = continuation(handler_call_details)
            # Who calls what there is not must not make it grow.
            if handler is not None:
                handler = self._handlers[method] = self._intercepted(method.removeprefix("/"), handler)
        return handler

    def _intercepted(self, method: str, handler: Any) -> Any:
        if method.startswith("grpc.health."):
            return handler
        serialize = handler.response_serializer
        assert serialize is not None
        if handler.request_streaming or handler.response_streaming:
            # With one message or many: for one request gRPC would wait where nobody watches it. And
            # it would never end a server one of whose streams sent what it cannot decode.
            if handler.stream_stream:
                many = handler.stream_stream
            elif handler.unary_stream:
                many = partial(_of_one_request, handler.unary_stream)
            else:
                many = partial(_with_one_response, handler.stream_unary)
            behaviour = partial(_of_undecoded, many, handler.request_deserializer)
            return grpc.stream_stream_rpc_method_handler(
                self._on_pool(self._stream, method, behaviour), response_serializer=partial(_bytes, serialize)
            )

        make = self._on_pool if method in _MAY_WAIT else partial
        return grpc.unary_unary_rpc_method_handler(
            make(self._answer, method, handler.unary_unary),
            request_deserializer=handler.request_deserializer,
            response_serializer=partial(_bytes, serialize),
        )

    def _on_pool(self, serve: Callable[..., Any], method: str, behaviour: Any) -> Any:
        bound: Any = partial(serve, method, behaviour)
        # Where gRPC looks for it.
        bound.experimental_thread_pool = self._streams.pool
        return bound

    def _answer(self, method: str, behaviour: Any, request: Any, context: grpc.ServicerContext) -> Any:
        with _Served(method, context) as span, _current(span):
            return behaviour(request, self._begin(method, context, span))
        return None

    def _stream(
        self, method: str, behaviour: Any, requests: Iterator[Any], context: grpc.ServicerContext
    ) -> Iterator[Any]:
        # Its span is current in no step of the stream: one for each statement would be endless.
        with _Served(method, context) as span:
            call = self._begin(method, context, span) if method in access.POLICY else context
            with self._streams.hold(context) as stream:
                yield from stream.responses(behaviour(stream.requests(requests), call))

    def _begin(self, method: str, context: grpc.ServicerContext, span: trace.Span) -> Call:
        caller = self._authenticate(_credential(context))
        span.set_attribute("krr.caller.kind", caller.kind.value)
        access.authorise(method, caller)
        return Call(caller, context, self._streams)


def _bytes(serialize: Callable[[Any], bytes], response: Any) -> bytes:
    if isinstance(response, bytes):
        return response
    # A refused call has no response; gRPC asks for its bytes all the same.
    return b"" if response is None else serialize(response)


def _of_undecoded(behaviour: Any, deserialize: Any, requests: Iterator[bytes], call: Any) -> Any:
    return behaviour(_decoded(deserialize, requests), call)


def _decoded(deserialize: Any, requests: Iterator[bytes]) -> Iterator[Any]:
    for request in requests:
        try:
            decoded = deserialize(request)
        except DecodeError:
            raise Refusal(Reason.INVALID_FIELD) from None
        yield decoded


def _of_one_request(behaviour: Any, requests: Iterator[Any], call: Any) -> Iterator[Any]:
    for request in requests:
        yield from behaviour(request, call)
        return


def _with_one_response(behaviour: Any, requests: Iterator[Any], call: Any) -> Iterator[Any]:
    yield behaviour(requests, call)


def _current(span: trace.Span) -> AbstractContextManager[object]:
    """Makes the span the parent of those of the call's statements."""
    if not span.is_recording():
        return nullcontext()
    # What is raised is judged by _Served: its text may hold anything.
    return trace.use_span(span, record_exception=False, set_status_on_exception=False)


class _Served:
    """A call while it is served: its span, and the status that what is raised within becomes."""

    def __init__(self, method: str, context: grpc.ServicerContext) -> None:
        self._method = method
        self._context = context

    def __enter__(self) -> trace.Span:
        # Not tracestate nor baggage: what callers put there would stand in our spans.
        traceparent = [
            str(value) for key, value in self._context.invocation_metadata() if key == "traceparent"
        ]
        self._span = _tracer.start_span(
            self._method,
            context=_trace_context.extract({"traceparent": traceparent[0]} if traceparent else {}),
            kind=trace.SpanKind.SERVER,
            attributes={"rpc.system.name": "grpc", "rpc.method": self._method},
        )
        return self._span

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, where: TracebackType | None
    ) -> bool:
        code = self._code(raised)
        self._span.set_attribute("rpc.response.status_code", code.name)
        self._span.end()
        return raised is None or isinstance(raised, Exception)

    def _code(self, raised: BaseException | None) -> grpc.StatusCode:
        if raised is None:
            return grpc.StatusCode.OK if self._context.is_active() else grpc.StatusCode.CANCELLED
        if isinstance(raised, Refusal):
            self._span.set_attribute("krr.reason", raised.reason.name)
            return refuse(self._context, raised)
        if isinstance(raised, grpc.RpcError | GeneratorExit):
            # The stream's caller is gone: noticed on waiting for a request, or on sending.
            return grpc.StatusCode.CANCELLED
        # Neither log nor answer quotes the exception: its text may hold anything.
        where = traceback.format_tb(raised.__traceback__)
        with trace.use_span(self._span):
            _log.error(
                "internal_fault", rpc_method=self._method, exception=type(raised).__name__, where=where
            )
        self._span.set_status(trace.StatusCode.ERROR)
        return refuse(self._context, Refusal(Reason.INTERNAL))


def _credential(context: grpc.ServicerContext) -> str | None:
    found = [str(value) for key, value in context.invocation_metadata() if key == "authorization"]
    # Of two, whoever stands in front of the register may have checked the other.
    if len(found) > 1:
        raise Refusal(Reason.CREDENTIAL_REFUSED)
    return found[0] if found else None
