"""Calls to Digipost's API: links from the entry point, signed requests, verified answers.

Addresses and bodies hold identity numbers. So nothing here logs them, exceptions carry a
code only, and the spans have neither.
"""

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from opentelemetry import trace

from adapters.digipost import signing
from adapters.digipost.entry_point import EntryPoint, read_entry_point
from adapters.digipost.xml_body import MAX_BODY_BYTES, MEDIA_TYPE, MalformedBody, parse, safe_code, text

# Both write addresses to their log.
logging.getLogger("httpx").setLevel(logging.WARNING)
logging.getLogger("httpcore").setLevel(logging.WARNING)

_tracer = trace.get_tracer("adapters.digipost")

# Other types, also those to come, are tried again: that loses nothing.
_FINAL_ERROR_TYPES = {"CLIENT_DATA", "CLIENT_TECHNICAL", "CONFIGURATION"}
# Final by its type, but another attempt has another clock reading.
_CLOCK_ERROR = "DATE_HEADER_OUTSIDE_ACCEPTED_INTERVAL"


class DigipostAway(Exception):
    """Digipost gave no answer that can be used; a later attempt may get one."""

    def __init__(self, error_code: str) -> None:
        super().__init__(error_code)
        self.error_code = error_code


class DigipostRefused(Exception):
    """Digipost answered, believably, that it will not do it."""

    def __init__(self, error_code: str) -> None:
        super().__init__(error_code)
        self.error_code = error_code


@dataclass(frozen=True)
class _Answer:
    status: int
    path: str
    headers: httpx.Headers
    body: bytes


class DigipostClient:
    """Knows one Digipost API and one sender's key. Threads may share it."""

    def __init__(self, url: str, broker_id: str, key: RSAPrivateKey) -> None:
        self._url = url.rstrip("/") + "/"
        self._broker_id = broker_id
        self._key = key
        self._tls = httpx.create_ssl_context(trust_env=False)
        self._entry_point: EntryPoint | None = None

    @asynccontextmanager
    async def connected(self) -> AsyncIterator["Connection"]:
        """A connection for the calls of one attempt. It sets no timeouts: the caller does."""
        async with httpx.AsyncClient(verify=self._tls, trust_env=False, timeout=None) as http:
            yield Connection(self, http)

    async def entry_point(self, http: httpx.AsyncClient) -> EntryPoint:
        """Where everything is; asked for again when it has grown old. Raises DigipostAway."""
        known, now = self._entry_point, time.monotonic()
        if known and known.is_fresh(now):
            known.used_at = now
            return known
        answer = await self.send(http, "entry_point", httpx.URL(self._url), None)
        if answer.status != 200:
            raise DigipostAway(f"HTTP_{answer.status}")
        try:
            self._entry_point = read_entry_point(answer.body, self._url, now)
        except MalformedBody:
            raise DigipostAway("ENTRY_POINT_MALFORMED") from None
        return self._entry_point

    def forget_entry_point(self) -> None:
        """Ask again before the next call."""
        self._entry_point = None

    async def send(
        self, http: httpx.AsyncClient, relation: str, url: httpx.URL, body: bytes | None
    ) -> _Answer:
        """One signed request, POST where it has a body. Raises DigipostAway."""
        path, _, query = url.raw_path.decode("ascii").partition("?")
        # Unpacked answers would be larger than what is counted.
        headers = {"Accept": MEDIA_TYPE, "Accept-Encoding": "identity", signing.USER_ID: self._broker_id}
        headers[signing.DATE] = signing.http_date(datetime.now(UTC))
        if body is not None:
            headers["Content-Type"] = MEDIA_TYPE
            headers[signing.CONTENT_SHA256] = signing.content_sha256(body)
        method = "GET" if body is None else "POST"
        to_sign = signing.request_string(method, path, query, headers)
        headers[signing.SIGNATURE] = signing.sign(to_sign, self._key)
        with _tracer.start_as_current_span(
            f"digipost {relation}",
            kind=trace.SpanKind.CLIENT,
            attributes={"http.request.method": method},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                async with http.stream(method, url, headers=headers, content=body) as response:
                    span.set_attribute("http.response.status_code", response.status_code)
                    return _Answer(response.status_code, path, response.headers, await _read(response))
            except httpx.ConnectError:
                reason = "DIGIPOST_UNREACHABLE"
            except (httpx.HTTPError, httpx.InvalidURL):
                reason = "DIGIPOST_NO_ANSWER"
            # Outside the handlers: httpx's exceptions know the address.
            raise DigipostAway(reason)


class Connection:
    """The calls of one attempt."""

    def __init__(self, client: DigipostClient, http: httpx.AsyncClient) -> None:
        self._client = client
        self._http = http

    async def call(
        self, relation: str, body: bytes | None = None, query: dict[str, str] | None = None
    ) -> bytes:
        """Do what the entry point calls `relation`: POST with a body, GET without.

        Returns the answer's body. Raises DigipostAway and DigipostRefused.
        """
        try:
            answer, entry_point = await self._at_link(relation, body, query)
            if answer.status == 404:
                # Links move. A second 404 at a link just fetched is about the person, if anything.
                self._client.forget_entry_point()
                answer, entry_point = await self._at_link(relation, body, query)
            return _believed(answer, entry_point)
        except DigipostAway:
            # Perhaps the links, perhaps the certificate, is what changed.
            self._client.forget_entry_point()
            raise

    async def _at_link(
        self, relation: str, body: bytes | None, query: dict[str, str] | None
    ) -> tuple[_Answer, EntryPoint]:
        entry_point = await self._client.entry_point(self._http)
        link = entry_point.links.get(relation)
        if link is None:
            raise DigipostAway("RELATION_MISSING")
        try:
            url = httpx.URL(link).copy_merge_params(query or {})
        except httpx.InvalidURL:
            raise DigipostAway("ENTRY_POINT_MALFORMED") from None
        return await self._client.send(self._http, relation, url, body), entry_point


async def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise DigipostAway("ANSWER_TOO_LARGE")
    return bytes(body)


def _believed(answer: _Answer, entry_point: EntryPoint) -> bytes:
    # What stands before Digipost's own servers answers so, unsigned; it is never final.
    if answer.status >= 500 or answer.status == 401:
        raise DigipostAway(f"HTTP_{answer.status}")
    try:
        signing.verify_answer(
            answer.status, answer.path, answer.headers, answer.body, entry_point.key, datetime.now(UTC)
        )
    except signing.AnswerNotBelieved as unbelieved:
        raise DigipostAway(unbelieved.error_code) from None
    if 200 <= answer.status < 300:
        return answer.body
    try:
        error = parse(answer.body, "error")
    except MalformedBody:
        raise DigipostAway(f"HTTP_{answer.status}") from None
    code = safe_code(text(error, "error-code"))
    if text(error, "error-type") in _FINAL_ERROR_TYPES and code != _CLOCK_ERROR:
        raise DigipostRefused(code)
    raise DigipostAway(code)
