"""Calls to Digipost's API: links from the entry point, signed requests, verified answers."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime

import httpx
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from adapters.adapter import Misconfigured, Refused, TryLater
from adapters.digipost import signing
from adapters.digipost.entry_point import EntryPoint, read_entry_point
from adapters.digipost.settings import DigipostSettings
from adapters.digipost.xml_body import MEDIA_TYPE, MalformedBody, parse, safe_code, text
from adapters.exchange import Answer, NotDone, exchange

# Final by its type, but another attempt has another clock reading.
_CLOCK_ERROR = "DATE_HEADER_OUTSIDE_ACCEPTED_INTERVAL"

_log = structlog.get_logger()


class DigipostClient:
    """Knows one Digipost API and one sender's key. Threads may share it."""

    def __init__(self, settings: DigipostSettings) -> None:
        key = load_pem_private_key(settings.key_file.read_bytes(), password=None)
        if not isinstance(key, RSAPrivateKey):
            raise ValueError("KRR_DIGIPOST_KEY_FILE is not an RSA key")
        self._key = key
        self._url = settings.url + "/"
        self._broker_id = settings.broker_id
        self._entry_point: EntryPoint | None = None

    def call(
        self, relation: str, ends: float, *, body: bytes | None = None, query: Mapping[str, str] | None = None
    ) -> bytes:
        """Do what the entry point calls `relation`: POST with a body, GET without.

        ends: as for exchange(). Returns the answer's body. Raises NotDone.
        """
        try:
            entry_point = self._fresh_entry_point(ends)
            url = _link(entry_point, relation, query)
            answer = self._send(relation, url, body, ends)
            if answer.status == 404:
                # Links move. A second 404 at a link just fetched is about the person, if anything.
                entry_point = self._fetch_entry_point(ends)
                url = _link(entry_point, relation, query)
                answer = self._send(relation, url, body, ends)
            return _believed(answer, url, entry_point.key)
        except NotDone as not_done:
            if isinstance(not_done.outcome, TryLater):
                # Perhaps the links, perhaps the certificate, is what changed.
                self._entry_point = None
            raise

    def _fresh_entry_point(self, ends: float) -> EntryPoint:
        known, now = self._entry_point, time.monotonic()
        if known and known.is_fresh(now):
            known.used_at = now
            return known
        return self._fetch_entry_point(ends)

    def _fetch_entry_point(self, ends: float) -> EntryPoint:
        now = time.monotonic()
        answer = self._send("entry_point", httpx.URL(self._url), None, ends)
        if answer.status != 200:
            outcome = _outcome_of_error(answer)
            # Nothing is asked about a person here. And the answer is unverified, so not final.
            raise NotDone(Misconfigured(outcome.error_code) if isinstance(outcome, Refused) else outcome)
        try:
            self._entry_point = fetched = read_entry_point(answer.body, self._url, now)
        except MalformedBody:
            raise NotDone(TryLater("ENTRY_POINT_MALFORMED")) from None
        return fetched

    def _send(self, relation: str, url: httpx.URL, body: bytes | None, ends: float) -> Answer:
        path, _, query = url.raw_path.decode("ascii").partition("?")
        headers = {"Accept": MEDIA_TYPE, signing.USER_ID: self._broker_id}
        headers[signing.DATE] = signing.http_date(datetime.now(UTC))
        if body is not None:
            headers["Content-Type"] = MEDIA_TYPE
            headers[signing.CONTENT_SHA256] = signing.content_sha256(body)
        method = "GET" if body is None else "POST"
        to_sign = signing.request_string(method, path, query, headers)
        headers[signing.SIGNATURE] = signing.sign(to_sign, self._key)
        return exchange(f"digipost {relation}", method, url, ends=ends, headers=headers, body=body)


def _link(entry_point: EntryPoint, relation: str, query: Mapping[str, str] | None) -> httpx.URL:
    link = entry_point.links.get(relation)
    if link is None:
        raise NotDone(TryLater("RELATION_MISSING"))
    try:
        return httpx.URL(link).copy_merge_params(query or {})
    except httpx.InvalidURL:
        raise NotDone(TryLater("ENTRY_POINT_MALFORMED")) from None


def _believed(answer: Answer, url: httpx.URL, key: RSAPublicKey) -> bytes:
    # What stands before Digipost's own servers answers so, unsigned; it is never final.
    if answer.status >= 500 or answer.status == 401:
        raise NotDone(TryLater(answer.error_code))
    path = url.raw_path.decode("ascii").partition("?")[0]
    doubt = signing.doubt_about(answer.status, path, answer.headers, answer.body, key, datetime.now(UTC))
    if doubt == signing.CLOCK_SKEW:
        raise NotDone(_clock_skew(answer))
    if doubt:
        raise NotDone(TryLater(doubt))
    if 200 <= answer.status < 300:
        return answer.body
    raise NotDone(_outcome_of_error(answer))


def _outcome_of_error(answer: Answer) -> TryLater | Refused:
    # The message is not read: after a wrong signature it holds the request's query.
    try:
        error = parse(answer.body, "error")
    except MalformedBody:
        return TryLater(answer.error_code)
    code, error_type = safe_code(text(error, "error-code")), text(error, "error-type")
    if code == _CLOCK_ERROR:
        return _clock_skew(answer)
    # A 403 is about who asks: certificate, signature or permission.
    if error_type == "CONFIGURATION" or (error_type == "CLIENT_TECHNICAL" and answer.status == 403):
        return Misconfigured(code)
    if error_type in ("CLIENT_DATA", "CLIENT_TECHNICAL"):
        return Refused(code)
    # Other types, also those to come, are tried again: that loses nothing.
    return TryLater(code)


def _clock_skew(answer: Answer) -> TryLater:
    """Says how far our clock is ahead of Digipost's, where the answer has a Date at all."""
    difference = signing.clock_difference(answer.headers.get(signing.DATE, ""), datetime.now(UTC))
    seconds = None if difference is None else round(difference.total_seconds())
    _log.warning("clock skew", seconds_ahead=seconds)
    return TryLater(signing.CLOCK_SKEW)
