"""An adapter written from adapters/template.py: one address, and a shared key that signs both ways."""

import hashlib
import hmac
import time
from pathlib import Path

from krr.v1 import delivery_service_pb2 as pb
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from adapters.adapter import AccountState, Done, Misconfigured, Refused, TryLater
from adapters.exchange import NotDone, exchange
from adapters.settings import DeadlineSeconds, ProtectedUrl

_FINAL = frozenset({"NO_ACCOUNT", "ACCOUNT_CLOSED"})
_ABOUT_THE_ADAPTER = frozenset({"WRONG_SIGNATURE"})
_ABOUT_THE_CLOCK = "WRONG_TIME"


class ThirdOperatorSettings(BaseSettings):
    """Settings from environment variables KRR_THIRD_….

    KRR_THIRD_URL: base address.
    KRR_THIRD_KEY_FILE: file that holds the shared key.
    KRR_THIRD_DEADLINE_SECONDS: how long one attempt may take in all.
    """

    model_config = SettingsConfigDict(env_prefix="KRR_THIRD_")

    url: ProtectedUrl
    key_file: Path
    deadline_seconds: DeadlineSeconds = 15.0


class ThirdOperatorAdapter:
    """A MailboxAdapter and AccountReader: it reads, writes where it differs from the wish, reads again."""

    def __init__(self, settings: ThirdOperatorSettings | None = None) -> None:
        """Without settings, those of the environment. Raises OSError where the key cannot be read."""
        self._settings = settings or ThirdOperatorSettings()
        self._key = self._settings.key_file.read_bytes()
        self.deadline_seconds = self._settings.deadline_seconds

    def deliver(self, delivery: pb.Delivery) -> Done | TryLater | Refused:
        """See MailboxAdapter. Refused with NO_ACCOUNT where a person without account should receive mail."""
        if delivery.HasField("open_account"):
            return Refused("ACCOUNT_NOT_OPENED")
        try:
            return self._make_it_so(delivery, time.monotonic() + self.deadline_seconds)
        except NotDone as not_done:
            if not_done.outcome == Refused("NO_ACCOUNT") and not delivery.receives_public_mail:
                return Done()
            return not_done.outcome

    def read(self, identifier: str) -> AccountState | TryLater:
        """See AccountReader."""
        try:
            receives = self._ask("status", identifier, time.monotonic() + self.deadline_seconds)
        except NotDone as not_done:
            if not_done.outcome == Refused("NO_ACCOUNT"):
                return AccountState(receives_public_mail=False, account_exists=False)
            return not_done.of_read
        return AccountState(receives, account_exists=True)

    def _make_it_so(self, delivery: pb.Delivery, ends: float) -> Done | TryLater:
        person, wanted = delivery.identifier, delivery.receives_public_mail
        if self._ask("status", person, ends) == wanted:
            return Done()
        self._ask("start" if wanted else "stop", person, ends)
        if self._ask("status", person, ends) == wanted:
            return Done()
        return TryLater("READ_BACK_DIFFERS")

    def _ask(self, action: str, person: str, ends: float) -> bool:
        body = Order(action=action, person=person).model_dump_json().encode()
        moment = str(int(time.time()))
        answer = exchange(
            f"third {action}",
            "POST",
            f"{self._settings.url}/subscription",
            ends=ends,
            headers={"X-Time": moment, "X-Signature": signature(self._key, moment, body)},
            body=body,
        )
        # Of its answer the operator signs status and body, and the request's signature with them.
        signed = signature(self._key, f"{answer.status} {signature(self._key, moment, body)}", answer.body)
        if not hmac.compare_digest(answer.headers.get("X-Signature", ""), signed):
            raise NotDone(TryLater("ANSWER_SIGNATURE"))
        try:
            said = Subscription.model_validate_json(answer.body, strict=True)
        except ValidationError:
            raise NotDone(TryLater("ANSWER_MALFORMED")) from None
        if said.error in _FINAL:
            raise NotDone(Refused(said.error))
        if said.error in _ABOUT_THE_ADAPTER:
            raise NotDone(Misconfigured(said.error))
        if said.error == _ABOUT_THE_CLOCK:
            raise NotDone(TryLater("CLOCK_SKEW"))
        if said.error or answer.status != 200:
            raise NotDone(TryLater(answer.error_code))
        return said.running


class Order(BaseModel):
    action: str
    person: str


class Subscription(BaseModel):
    running: bool = False
    error: str = ""


def signature(key: bytes, about: str, body: bytes) -> str:
    """Of what the request or answer is about, and its body."""
    return hmac.new(key, about.encode() + b"\n" + body, hashlib.sha256).hexdigest()
