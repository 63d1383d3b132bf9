"""Access tokens by OAuth 2.0 client credentials (RFC 6749, section 4.4)."""

import threading
import time
from urllib.parse import urlencode

from pydantic import BaseModel, Field, ValidationError

from adapters.adapter import TryLater
from adapters.exchange import NotDone, exchange
from adapters.sms.settings import LinkSettings

# A token is used for this part of its life, so that it does not run out on the way.
_USED_PART = 0.9


class AccessToken:
    """One access token at a time, fetched when it is needed. Safe to use from several threads."""

    def __init__(self, settings: LinkSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._token = ""
        self._good_until = 0.0

    def get(self, ends: float, *, fresh: bool = False) -> str:
        """The token, by `ends` on the monotonic clock.

        fresh: fetch another one, which shows that the gateway answers now.

        Raises NotDone.
        """
        if not self._lock.acquire(timeout=max(0.0, ends - time.monotonic())):
            raise NotDone(TryLater("TOKEN_TIMEOUT"))
        try:
            good = time.monotonic() < self._good_until and not fresh
            return self._token if good else self._fetch(ends)
        finally:
            self._lock.release()

    def drop(self, token: str) -> None:
        """Use the token no more: it was refused."""
        with self._lock:
            if token == self._token:
                self._good_until = 0.0

    def _fetch(self, ends: float) -> str:
        try:
            secret = self._settings.client_secret_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise NotDone(TryLater("NO_CLIENT_SECRET")) from None
        form = {
            "grant_type": "client_credentials",
            "client_id": self._settings.client_id,
            "client_secret": secret,
        }
        asked = time.monotonic()
        try:
            answer = exchange(
                "link token",
                "POST",
                self._settings.token_url,
                ends=ends,
                headers={"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"},
                body=urlencode(form).encode(),
            )
        except NotDone as not_done:
            raise NotDone(TryLater(f"TOKEN_{not_done.outcome.error_code}")) from None
        if answer.status != 200:
            raise NotDone(TryLater(f"TOKEN_{answer.error_code}"))
        try:
            issued = _Issued.model_validate_json(answer.body)
        except ValidationError:
            raise NotDone(TryLater("TOKEN_ANSWER_MALFORMED")) from None
        self._token, self._good_until = issued.access_token, asked + issued.expires_in * _USED_PART
        return self._token


class _Issued(BaseModel):
    access_token: str = Field(pattern="^[!-~]+$")
    expires_in: float = Field(gt=0)
