"""Access tokens by OAuth 2.0 client credentials (RFC 6749, section 4.4)."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import httpx
from pydantic import BaseModel, Field, ValidationError

from adapters.adapter import TryLater
from adapters.exchange import exchange

# A token is used for this part of its life, so that it does not run out on the way.
_USED_PART = 0.9


@dataclass(frozen=True)
class ClientCredentials:
    """Who we are, and where that gives a token."""

    token_url: str
    client_id: str
    client_secret_file: Path


class AccessToken:
    """One access token at a time, fetched when it is needed. Safe to use from several threads."""

    def __init__(self, client: httpx.Client, credentials: ClientCredentials) -> None:
        self._client = client
        self._credentials = credentials
        self._lock = threading.Lock()
        self._token = ""
        self._good_until = 0.0

    def get(self, ends: float) -> str | TryLater:
        """The token, by `ends` on the monotonic clock."""
        if not self._lock.acquire(timeout=max(0.0, ends - time.monotonic())):
            return TryLater("TOKEN_TIMEOUT")
        try:
            return self._token if time.monotonic() < self._good_until else self._fetch(ends)
        finally:
            self._lock.release()

    def drop(self, token: str) -> None:
        """Use the token no more: it was refused."""
        with self._lock:
            if token == self._token:
                self._good_until = 0.0

    def _fetch(self, ends: float) -> str | TryLater:
        try:
            secret = self._credentials.client_secret_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return TryLater("NO_CLIENT_SECRET")
        form = {
            "grant_type": "client_credentials",
            "client_id": self._credentials.client_id,
            "client_secret": secret,
        }
        asked = time.monotonic()
        answer = exchange(
            self._client,
            "link token",
            "POST",
            self._credentials.token_url,
            ends=ends,
            headers={"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"},
            content=urlencode(form).encode(),
        )
        if isinstance(answer, TryLater):
            return TryLater(f"TOKEN_{answer.error_code}")
        if answer.status != 200:
            return TryLater(f"TOKEN_{answer.error_code}")
        try:
            issued = _Issued.model_validate_json(answer.body)
        except ValidationError:
            return TryLater("TOKEN_MALFORMED_ANSWER")
        self._token, self._good_until = issued.access_token, asked + issued.expires_in * _USED_PART
        return self._token


class _Issued(BaseModel):
    access_token: str = Field(pattern="^[!-~]+$")
    expires_in: float = Field(gt=0)
