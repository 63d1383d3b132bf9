"""One HTTP request to a supplier, within a deadline, with its failures as outcomes."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx
from opentelemetry import trace

from adapters.adapter import TryLater

# Its INFO lines name every address it calls.
logging.getLogger("httpx").setLevel(logging.WARNING)

_MAX_ANSWER_BYTES = 64 * 1024

_tracer = trace.get_tracer(__name__)


@dataclass(frozen=True)
class Answer:
    """What a supplier answered."""

    status: int
    body: bytes

    @property
    def error_code(self) -> str:
        """The status as an error code, such as "HTTP_503"."""
        return f"HTTP_{self.status}"


def http_client() -> httpx.Client:
    """A client for exchange().

    It follows no redirects and takes no proxy from the environment: what it sends goes to
    the configured address or nowhere.
    """
    return httpx.Client(trust_env=False, follow_redirects=False, headers={"Accept-Encoding": "identity"})


def exchange(
    client: httpx.Client,
    span_name: str,
    method: str,
    url: str,
    *,
    ends: float,
    headers: Mapping[str, str],
    content: bytes,
) -> Answer | TryLater:
    """Send one request and read the answer.

    ends: by the monotonic clock, when the answer must be there.

    TryLater says what became of a request without an answer: UNREACHABLE where the supplier
    cannot have got it; TIMEOUT, ANSWER_LOST or ANSWER_TOO_LARGE where it may have.
    """
    with _tracer.start_as_current_span(
        span_name,
        kind=trace.SpanKind.CLIENT,
        attributes={"http.request.method": method},
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        left = ends - time.monotonic()
        if left <= 0:
            return TryLater("OUT_OF_TIME")
        try:
            with client.stream(method, url, headers=dict(headers), content=content, timeout=left) as response:
                span.set_attribute("http.response.status_code", response.status_code)
                body = bytearray()
                for chunk in response.iter_raw():
                    body += chunk
                    if len(body) > _MAX_ANSWER_BYTES:
                        return TryLater("ANSWER_TOO_LARGE")
                    if time.monotonic() > ends:
                        return TryLater("TIMEOUT")
                return Answer(response.status_code, bytes(body))
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
            return TryLater("UNREACHABLE")
        except httpx.TimeoutException:
            return TryLater("TIMEOUT")
        except httpx.TransportError:
            return TryLater("ANSWER_LOST")
