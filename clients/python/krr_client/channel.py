"""A channel to the register with a deadline on every call."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

from krr_client.errors import RegisterError

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
        }
    ],
    "retryThrottling": {"maxTokens": 50, "tokenRatio": 0.5},
}


def connect(address: str, credential: str, *, timeout: float = 10.0) -> grpc.Channel:
    """Open a channel to the register at `address` ("host:port").

    credential: value of the "authorization" metadata entry, sent with each call.
    timeout: seconds; the deadline of each call that names none of its own.

    Calls through the channel raise RegisterError. Close the channel when done.
    """
    channel = grpc.insecure_channel(
        address,
        options=[
            ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
            ("grpc.max_receive_message_length", 16 * 1024 * 1024),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2000),
        ],
    )
    return grpc.intercept_channel(channel, _DeadlineAndCredential(credential, timeout))


class _CallDetails(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class _Details(_CallDetails, grpc.ClientCallDetails):
    pass


class _DeadlineAndCredential(grpc.UnaryUnaryClientInterceptor):
    def __init__(self, credential: str, timeout: float) -> None:
        self._credential = credential
        self._timeout = timeout

    def intercept_unary_unary(
        self, continuation: Callable[..., Any], details: grpc.ClientCallDetails, request: Any
    ) -> Any:
        call = continuation(
            _Details(
                method=details.method,
                timeout=self._timeout if details.timeout is None else details.timeout,
                metadata=[*(details.metadata or ()), ("authorization", self._credential)],
                credentials=details.credentials,
                wait_for_ready=details.wait_for_ready,
                compression=details.compression,
            ),
            request,
        )
        if call.code() is not grpc.StatusCode.OK:
            raise RegisterError(call)
        return call
