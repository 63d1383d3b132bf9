"""One HTTP request to a supplier, all of it within a deadline.

Addresses, headers and bodies hold identity numbers and secrets. So nothing here logs them,
exceptions carry a code only, and spans have neither.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from ssl import SSLContext, SSLError

import httpx
from opentelemetry import trace

from adapters.adapter import Misconfigured, Refused, TryLater, Unsure

# Both write addresses to their log.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)

LARGEST_ANSWER = 64 * 1024

# Of what exchange() raises: the supplier may have got the request.
_ARRIVED_PERHAPS = frozenset({"TIMEOUT", "ANSWER_LOST", "ANSWER_TOO_LARGE"})

_tracer = trace.get_tracer(__name__)


class NotDone(Exception):
    """An attempt ends here, with this outcome; for use within an adapter, never out of it."""

    def __init__(self, outcome: TryLater | Refused) -> None:
        super().__init__(outcome.error_code)
        self.outcome = outcome

    @property
    def of_read(self) -> TryLater:
        """The outcome where something was only read: what is refused then says nothing of the person."""
        return TryLater(self.outcome.error_code) if isinstance(self.outcome, Refused) else self.outcome

    @property
    def of_message(self) -> TryLater | Refused:
        """The outcome where a message was handed over, which may have been taken."""
        unsure = self.outcome.error_code in _ARRIVED_PERHAPS
        return Unsure(self.outcome.error_code) if unsure else self.outcome


@dataclass(frozen=True)
class Answer:
    """What a supplier answered."""

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def error_code(self) -> str:
        """The status as an error code, such as "HTTP_503"."""
        return f"HTTP_{self.status}"


def exchange(
    span_name: str,
    method: str,
    url: httpx.URL | str,
    *,
    ends: float,
    headers: Mapping[str, str],
    body: bytes | None = None,
    tls: SSLContext | None = None,
    largest_answer: int = LARGEST_ANSWER,
) -> Answer:
    """Send one request to that address and nowhere else, and read the answer.

    ends: by the monotonic clock, when the whole answer must be there.
    tls: with a client certificate, or authorities of the supplier's own.
    largest_answer: how many bytes of body are read.

    Raises NotDone. Its TryLater says what became of the request: OUT_OF_TIME, UNREACHABLE or
    CERTIFICATE_REFUSED (either side's, so Misconfigured) where the supplier cannot have got it;
    TIMEOUT, ANSWER_LOST or ANSWER_TOO_LARGE where it may.
    """
    with (
        _tracer.start_as_current_span(
            span_name,
            kind=trace.SpanKind.CLIENT,
            attributes={"http.request.method": method},
            record_exception=False,
            set_status_on_exception=False,
        ) as span,
        # A loop for the deadline's sake: timeouts of blocking calls are counted per read, which
        # an answer that trickles outlasts. Not by asyncio.run: at its end it waits for the name
        # look-up that hangs.
        closing(asyncio.new_event_loop()) as loop,
    ):
        answer = loop.run_until_complete(
            _answer(method, url, ends - time.monotonic(), headers, body, tls or _tls(), largest_answer)
        )
        if isinstance(answer, TryLater):
            # Raised only here, where no exception of httpx's, which know the address, hangs on it.
            raise NotDone(answer)
        span.set_attribute("http.response.status_code", answer.status)
        return answer


async def _answer(
    method: str,
    url: httpx.URL | str,
    seconds: float,
    headers: Mapping[str, str],
    body: bytes | None,
    tls: SSLContext,
    largest_answer: int,
) -> Answer | TryLater:
    if seconds <= 0:
        return TryLater("OUT_OF_TIME")
    try:
        async with (
            asyncio.timeout(seconds),
            # Half of the time for connecting: what was not sent is thus told from what perhaps was.
            # A client, so a connection, for each request: one that was kept may be about to close,
            # and a request lost with it looks like one that was done.
            httpx.AsyncClient(
                verify=tls, trust_env=False, timeout=httpx.Timeout(None, connect=seconds / 2)
            ) as client,
            client.stream(
                method,
                url,
                # Unpacked answers would be larger than what is counted.
                headers={**headers, "Accept-Encoding": "identity"},
                content=body,
                follow_redirects=False,
            ) as response,
        ):
            content = bytearray()
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > largest_answer:
                    return TryLater("ANSWER_TOO_LARGE")
            return Answer(response.status_code, response.headers, bytes(content))
    except TimeoutError:
        return TryLater("TIMEOUT")
    # OpenSSL's own too: httpx lets an alert through that comes in place of an answer.
    except (httpx.TransportError, SSLError) as error:
        if _is_about_a_certificate(error):
            return Misconfigured("CERTIFICATE_REFUSED")
        unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        return TryLater("UNREACHABLE" if unsent else "ANSWER_LOST")


def _is_about_a_certificate(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, SSLError):
        # Its cause is cut off by httpcore's pool.
        error = error.__context__
    # As OpenSSL names them; who refuses a client's in TLS 1.3 says so in place of an answer.
    reason = (error.reason if error else None) or ""
    return "CERTIFICATE" in reason or "UNKNOWN_CA" in reason


@cache
def _tls() -> SSLContext:
    # Once: reading the list of authorities takes longer than most requests.
    return httpx.create_ssl_context(trust_env=False)
