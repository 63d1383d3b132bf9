"""Around every call: trace, credential, policy, deadline, refusals. One interceptor."""

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
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


@dataclass(frozen=True)
class Call:
    """What a service needs to know of a call.

    ends: when the caller gives up, on time.monotonic().
    waiter: leaves when the caller is gone.
    hold: to be held while a unary call waits. Raises Refusal: TOO_MANY_STREAMS, SERVER_ENDING.
    """

    caller: Caller
    ends: float
    waiter: Waiter
    hold: Callable[[], AbstractContextManager[object]]

    @property
    def deadline(self) -> float:
        """When work that begins now must be done, on time.monotonic()."""
        return min(self.ends, time.monotonic() + MAX_SECONDS)


class CallInterceptor(grpc.ServerInterceptor):
    """Gives each method of krr.v1 a Call in place of gRPC's context, and turns what it
    raises into a status. Health and reflection pass through, the latter counted as a stream:
    anyone may ask.

    authenticate: from the "authorization" metadata entry to the caller.
    """

    def __init__(self, authenticate: Callable[[str | None], Caller], streams: Streams) -> None:
        self._authenticate = authenticate
        self._streams = streams

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Any],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = continuation(handler_call_details)
        method = handler_call_details.method.removeprefix("/")
        if handler is None or method.startswith("grpc.health."):
            return handler
        serialize = handler.response_serializer
        assert serialize is not None
        if handler.response_streaming:
            # With one request or many: for the one, gRPC would wait where nobody watches it. And
            # it would never end a server one of whose streams sent what it cannot decode.
            many = handler.stream_stream or partial(_of_one_request, handler.unary_stream)
            behaviour = partial(_of_undecoded, many, handler.request_deserializer)
            return grpc.stream_stream_rpc_method_handler(
                self._on_pool(self._stream, method, behaviour), response_serializer=serialize
            )

        make = self._on_pool if method in _MAY_WAIT else partial
        return grpc.unary_unary_rpc_method_handler(
            make(self._answer, method, handler.unary_unary),
            request_deserializer=handler.request_deserializer,
            # A refused call has no response; gRPC asks for its bytes all the same.
            response_serializer=lambda response: b"" if response is None else serialize(response),
        )

    def _on_pool(self, serve: Callable[..., Any], method: str, behaviour: Any) -> Any:
        bound: Any = partial(serve, method, behaviour)
        # Where gRPC looks for it.
        bound.experimental_thread_pool = self._streams.pool
        return bound

    def _answer(self, method: str, behaviour: Any, request: Any, context: grpc.ServicerContext) -> Any:
        with _span(method, context) as span, trace.use_span(span), _refusing(method, context, span):
            return behaviour(request, self._begin(method, context, span))
        return None

    def _stream(
        self, method: str, behaviour: Any, requests: Iterator[Any], context: grpc.ServicerContext
    ) -> Iterator[Any]:
        # Its span is current in no step of the stream: one for each statement would be endless.
        with _span(method, context) as span, _refusing(method, context, span):
            call = self._begin(method, context, span) if method in access.POLICY else context
            with self._streams.hold(context) as stream:
                yield from stream.responses(behaviour(stream.requests(requests), call))

    def _begin(self, method: str, context: grpc.ServicerContext, span: trace.Span) -> Call:
        caller = self._authenticate(_credential(context))
        span.set_attribute("krr.caller.kind", caller.kind.value)
        access.authorise(method, caller)
        waiter = Waiter()
        if not context.add_callback(waiter.leave):
            waiter.leave()
        return Call(caller, _end(context), waiter, partial(self._streams.hold, context))


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


@contextmanager
def _span(method: str, context: grpc.ServicerContext) -> Iterator[trace.Span]:
    # Not tracestate nor baggage: what callers put there would stand in our spans.
    traceparent = [str(value) for key, value in context.invocation_metadata() if key == "traceparent"]
    span = _tracer.start_span(
        method,
        context=_trace_context.extract({"traceparent": traceparent[0]} if traceparent else {}),
        kind=trace.SpanKind.SERVER,
        attributes={"rpc.system.name": "grpc", "rpc.method": method},
    )
    try:
        yield span
    finally:
        span.end()


@contextmanager
def _refusing(method: str, context: grpc.ServicerContext, span: trace.Span) -> Iterator[None]:
    """Turn what is raised within into the call's status."""
    code = grpc.StatusCode.OK
    try:
        yield
        if not context.is_active():
            code = grpc.StatusCode.CANCELLED
    except Refusal as refusal:
        span.set_attribute("krr.reason", refusal.reason.name)
        code = refuse(context, refusal)
    except (grpc.RpcError, GeneratorExit):
        # The stream's caller is gone: noticed on waiting for a request, or on sending.
        code = grpc.StatusCode.CANCELLED
    except Exception as fault:
        # Neither log nor answer quotes the exception: its text may hold anything.
        where = traceback.format_tb(fault.__traceback__)
        with trace.use_span(span):
            _log.error("internal_fault", rpc_method=method, exception=type(fault).__name__, where=where)
        span.set_status(trace.StatusCode.ERROR)
        code = refuse(context, Refusal(Reason.INTERNAL))
    finally:
        span.set_attribute("rpc.response.status_code", code.name)


def _credential(context: grpc.ServicerContext) -> str | None:
    found = [str(value) for key, value in context.invocation_metadata() if key == "authorization"]
    # Of two, whoever stands in front of the register may have checked the other.
    if len(found) > 1:
        raise Refusal(Reason.CREDENTIAL_REFUSED)
    return found[0] if found else None


def _end(context: grpc.ServicerContext) -> float:
    remaining = context.time_remaining()
    if remaining < MIN_SECONDS:
        raise Refusal(Reason.DEADLINE)
    return time.monotonic() + remaining
