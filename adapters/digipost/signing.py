"""Digipost's signatures: the strings that are signed, made and checked.

Source: the signing of Digipost's published clients (digipost-api-client-java,
digipost-api-client-dotnet), and the latter's test vector.
"""

import base64
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

DATE = "Date"
CONTENT_SHA256 = "X-Content-SHA256"
SIGNATURE = "X-Digipost-Signature"
USER_ID = "X-Digipost-UserId"

# Both sides refuse a Date further from their own clock.
ACCEPTED_CLOCK_DIFFERENCE = timedelta(minutes=5)
# The error code where one is.
CLOCK_SKEW = "CLOCK_SKEW"

_SIGNED_HEADERS = ("content-md5", "date", "x-content-sha256", "x-digipost-userid")


def request_string(method: str, path: str, query: str, headers: Mapping[str, str]) -> str:
    """What the sender of a request signs.

    path, query: as sent, percent-encoded; the query without "?", empty where there is none.
    headers: those of the request; names in any case.
    """
    return f"{method.upper()}\n{path.lower()}\n{_header_lines(headers)}{query.lower()}\n"


def answer_string(status: int, path: str, headers: Mapping[str, str]) -> str:
    """What Digipost signs of an answer; path is the request's."""
    return f"{status}\n{path.lower()}\n{_header_lines(headers)}"


def content_sha256(body: bytes) -> str:
    """Value of X-Content-SHA256."""
    return base64.b64encode(hashlib.sha256(body).digest()).decode()


def http_date(moment: datetime) -> str:
    """Value of Date."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def sign(string: str, key: RSAPrivateKey) -> str:
    """Value of X-Digipost-Signature."""
    return base64.b64encode(key.sign(string.encode(), PKCS1v15(), SHA256())).decode()


def is_signed_by(key: RSAPublicKey, string: str, signature: str) -> bool:
    """True where `signature` is the key owner's over `string`."""
    try:
        key.verify(base64.b64decode(signature, validate=True), string.encode(), PKCS1v15(), SHA256())
    except (InvalidSignature, ValueError):
        return False
    return True


def clock_difference(date: str, now: datetime) -> timedelta | None:
    """How far `now` is ahead of the Date header; None where that is not one."""
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    # A Date in "-0000" is parsed without time zone; it means UTC.
    return now - (moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def is_now(date: str, now: datetime) -> bool:
    """True where the Date header is one, and within the accepted difference from `now`."""
    difference = clock_difference(date, now)
    return difference is not None and abs(difference) <= ACCEPTED_CLOCK_DIFFERENCE


def doubt_about(
    status: int, path: str, headers: Mapping[str, str], body: bytes, key: RSAPublicKey, now: datetime
) -> str:
    """What is wrong with an answer, as an error code; empty where it is Digipost's, whole, and of now.

    headers: those of the answer; a mapping that finds names in any case.
    """
    date = headers.get(DATE, "")
    if not is_now(date, now):
        return "ANSWER_DATE" if clock_difference(date, now) is None else CLOCK_SKEW
    stated_hash = headers.get(CONTENT_SHA256)
    if (body or stated_hash is not None) and stated_hash != content_sha256(body):
        return "ANSWER_HASH"
    if not is_signed_by(key, answer_string(status, path, headers), headers.get(SIGNATURE, "")):
        return "ANSWER_SIGNATURE"
    return ""


def _header_lines(headers: Mapping[str, str]) -> str:
    lower = {name.lower(): value for name, value in headers.items()}
    return "".join(f"{name}: {lower[name]}\n" for name in _SIGNED_HEADERS if name in lower)
