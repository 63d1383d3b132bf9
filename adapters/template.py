"""An operator's adapter to begin from: copy this file, and make the wire format the operator's own.

The one here is nobody's: two addresses, JSON, a bearer token. What comes next is in
adapters/README.md.
"""

import time
from pathlib import Path

from krr.v1 import delivery_service_pb2 as pb
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from adapters.adapter import AccountState, Done, Misconfigured, Refused, TryLater
from adapters.exchange import NotDone, exchange
from adapters.settings import DeadlineSeconds, ProtectedUrl

# The operator's own words for what no attempt will change, and for an adapter that it does not
# let in. A status without one of them is somebody else's, such as a proxy's, and never final.
_FINAL = frozenset({"NO_ACCOUNT", "ACCOUNT_CLOSED"})
_ABOUT_THE_ADAPTER = frozenset({"UNKNOWN_TOKEN"})


class TemplateSettings(BaseSettings):
    """Settings from environment variables KRR_TEMPLATE_….

    KRR_TEMPLATE_URL: base address.
    KRR_TEMPLATE_TOKEN_FILE: file that holds the bearer token; read for every request, so that
        a new token needs no restart.
    KRR_TEMPLATE_DEADLINE_SECONDS: how long one attempt may take in all.
    """

    model_config = SettingsConfigDict(env_prefix="KRR_TEMPLATE_")

    url: ProtectedUrl
    token_file: Path
    deadline_seconds: DeadlineSeconds = 20.0


class TemplateAdapter:
    """A MailboxAdapter and AccountReader: it reads, writes where that differs from the wish, and reads again.

    So it bears repetition whatever became of an earlier attempt. It keeps nothing of one
    delivery for the next: several threads share it.
    """

    def __init__(self, settings: TemplateSettings | None = None) -> None:
        """Without settings, those of the environment."""
        self._settings = settings or TemplateSettings()
        self.deadline_seconds = self._settings.deadline_seconds

    def deliver(self, delivery: pb.Delivery) -> Done | TryLater | Refused:
        """See MailboxAdapter. Refused with NO_ACCOUNT where a person without account should receive mail."""
        if delivery.HasField("open_account"):
            return Refused("ACCOUNT_NOT_OPENED")
        try:
            return self._make_it_so(delivery, time.monotonic() + self.deadline_seconds)
        except NotDone as not_done:
            if not_done.outcome == Refused("NO_ACCOUNT") and not delivery.receives_public_mail:
                # Nobody's mail goes to an account that does not exist.
                return Done()
            return not_done.outcome

    def read(self, identifier: str) -> AccountState | TryLater:
        """See AccountReader. Where the operator tells address and certificate, they belong in the answer."""
        try:
            receives = self._receives_public_mail(identifier, time.monotonic() + self.deadline_seconds)
        except NotDone as not_done:
            if not_done.outcome == Refused("NO_ACCOUNT"):
                return AccountState(receives_public_mail=False, account_exists=False)
            return not_done.of_read
        return AccountState(receives, account_exists=True)

    def _make_it_so(self, delivery: pb.Delivery, ends: float) -> Done | TryLater:
        wanted = delivery.receives_public_mail
        if self._receives_public_mail(delivery.identifier, ends) == wanted:
            return Done()
        # The identity number stands in bodies only: logs keep addresses.
        wish = _Account(person=delivery.identifier, public_mail=wanted)
        self._call("template write", "PUT", "/public-mail", wish, ends)
        if self._receives_public_mail(delivery.identifier, ends) == wanted:
            return Done()
        return TryLater("READ_BACK_DIFFERS")

    def _receives_public_mail(self, identifier: str, ends: float) -> bool:
        query = _Query(person=identifier)
        answer = self._call("template read", "POST", "/public-mail/search", query, ends)
        try:
            return _Account.model_validate_json(answer, strict=True).public_mail
        except ValidationError:
            raise NotDone(TryLater("ANSWER_MALFORMED")) from None

    def _call(self, span_name: str, method: str, path: str, body: BaseModel, ends: float) -> bytes:
        try:
            token = self._settings.token_file.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            raise NotDone(Misconfigured("NO_TOKEN")) from None
        answer = exchange(
            span_name,
            method,
            self._settings.url + path,
            ends=ends,
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            body=body.model_dump_json().encode(),
        )
        if answer.status == 200:
            return answer.body
        code = _error_code(answer.body)
        if code in _FINAL:
            raise NotDone(Refused(code))
        if code in _ABOUT_THE_ADAPTER:
            raise NotDone(Misconfigured(code))
        raise NotDone(TryLater(answer.error_code))


class _Query(BaseModel):
    person: str


class _Account(BaseModel):
    person: str
    public_mail: bool


class _Error(BaseModel):
    error: str


def _error_code(body: bytes) -> str:
    try:
        return _Error.model_validate_json(body).error
    except ValidationError:
        return ""
