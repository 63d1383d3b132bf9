"""What stands around a call in the server, again and again: trace, credential, policy, deadline.

python -m tests.bench.intercepted_calls PLAN
"""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from krr_client.telemetry import configure_telemetry
from opentelemetry import trace

from server import access
from server.call import CallInterceptor
from server.streams import Streams
from tests.bench import closed_loop
from tests.bench.access_check import parse_identifier

_AT_ONCE = 1000


@dataclass(frozen=True)
class InterceptedCalls:
    """A plan: as in access_check, and whether there is tracing, of which no call is sampled."""

    authorization: str
    method: str
    traced: bool
    threads: int
    seconds: float


@dataclass(frozen=True)
class _Details:
    method: str
    invocation_metadata: tuple[tuple[str, str], ...] = ()


class _Context:
    """Of a call whose caller waits for ten seconds."""

    def __init__(self, authorization: str) -> None:
        self._metadata = (("user-agent", "bench"), ("authorization", authorization))

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    def time_remaining(self) -> float:
        return 10.0

    def is_active(self) -> bool:
        return True


def _prepare(plan: InterceptedCalls) -> Callable[[], Callable[[], int]]:
    if plan.traced:
        os.environ["OTEL_TRACES_SAMPLER"] = "always_off"
    else:
        os.environ["OTEL_SDK_DISABLED"] = "true"
    configure_telemetry("bench", Path(tempfile.mkdtemp()))
    authenticate = partial(access.authenticate, development=True, parse_identifier=parse_identifier)
    interceptor = CallInterceptor(authenticate, Streams(1, 30))
    handler: Any = grpc.unary_unary_rpc_method_handler(_look, response_serializer=bytes)
    details: Any = _Details(f"/{plan.method}")
    serve = interceptor.intercept_service(lambda _: handler, details).unary_unary
    context = _Context(plan.authorization)

    def once() -> int:
        for _ in range(_AT_ONCE):
            serve(b"", context)
        return _AT_ONCE

    return lambda: once


def _look(_request: bytes, _call: object) -> bool:
    """What each statement of a look-up asks."""
    return trace.get_current_span().is_recording()


if __name__ == "__main__":
    closed_loop.drive(_prepare)
