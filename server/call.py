"""Around every call: trace, credential, policy, deadline, refusals. One interceptor."""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from server import access
from server.domain.caller import Caller
from server.domain.errors import Reason, Refusal
from server.errors import refuse

# No call may hold a thread for longer, whatever deadline it brings.
MAX_SECONDS = 10.0
# With less than this left, a call could only fail half-way.
MIN_SECONDS = 0.005

_log = structlog.get_logger()
_tracer = trace.get_tracer("server")
_trace_context = TraceContextTextMapPropagator()


@dataclass(frozen=True)
class Call:
    """What a service needs to know of a call.

    deadline: on time.monotonic(); work still under way then is of no use to the caller.
    """

    caller: Caller
    deadline: float


class CallInterceptor(grpc.ServerInterceptor):
    """Gives each method of krr.v1 a Call in place of gRPC's context, and turns what it
    raises into a status. Health and reflection pass through: anyone may ask.

    authenticate: from the "authorization" metadata entry to the caller.
    """

    def __init__(self, authenticate: Callable[[str | None], Caller]) -> None:
        self._authenticate = authenticate

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Any],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = continuation(handler_call_details)
        method = handler_call_details.method.removeprefix("/")
        if handler is None or method not in access.POLICY:
            return handler

        serialize, behaviour = handler.response_serializer, handler.unary_unary
        assert serialize is not None

        def serve(request: Any, context: grpc.ServicerContext) -> Any:
            return self._serve(method, behaviour, request, context)

        return grpc.unary_unary_rpc_method_handler(
            serve,
            request_deserializer=handler.request_deserializer,
            # A refused call has no response; gRPC asks for its bytes all the same.
            response_serializer=lambda response: b"" if response is None else serialize(response),
        )

    def _serve(self, method: str, behaviour: Any, request: Any, context: grpc.ServicerContext) -> Any:
        # Not tracestate nor baggage: what callers put there would stand in our spans.
        traceparent = [str(value) for key, value in context.invocation_metadata() if key == "traceparent"]
        with _tracer.start_as_current_span(
            method,
            context=_trace_context.extract({"traceparent": traceparent[0]} if traceparent else {}),
            kind=trace.SpanKind.SERVER,
            attributes={"rpc.system.name": "grpc", "rpc.method": method},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            code = grpc.StatusCode.OK
            try:
                caller = self._authenticate(_credential(context))
                span.set_attribute("krr.caller.kind", caller.kind.value)
                access.authorise(method, caller)
                return behaviour(request, Call(caller, _deadline(context)))
            except Refusal as refusal:
                span.set_attribute("krr.reason", refusal.reason.name)
                code = refuse(context, refusal)
            except Exception as fault:
                # Neither log nor answer quotes the exception: its text may hold anything.
                where = traceback.format_tb(fault.__traceback__)
                _log.error("internal_fault", rpc_method=method, exception=type(fault).__name__, where=where)
                span.set_status(trace.StatusCode.ERROR)
                code = refuse(context, Refusal(Reason.INTERNAL))
            finally:
                span.set_attribute("rpc.response.status_code", code.name)
        return None


def _credential(context: grpc.ServicerContext) -> str | None:
    found = [str(value) for key, value in context.invocation_metadata() if key == "authorization"]
    # Of two, whoever stands in front of the register may have checked the other.
    if len(found) > 1:
        raise Refusal(Reason.CREDENTIAL_REFUSED)
    return found[0] if found else None


def _deadline(context: grpc.ServicerContext) -> float:
    remaining = min(context.time_remaining(), MAX_SECONDS)
    if remaining < MIN_SECONDS:
        raise Refusal(Reason.DEADLINE)
    return time.monotonic() + remaining
