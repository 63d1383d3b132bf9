"""Keeps e-Boks in step with the register: read, write where it differs, read back."""

import time
import uuid
from collections.abc import Mapping

from krr.v1 import delivery_service_pb2 as pb
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from adapters.adapter import Done, Misconfigured, Refused, TryLater
from adapters.eboks.settings import EBoksSettings
from adapters.exchange import NotDone, exchange

# The contract's final refusals. A status without one of these codes is somebody else's, such
# as a proxy's 404, and says nothing about the person.
_FINAL_CODES = frozenset({"INVALID_REQUEST", "NO_ACCOUNT", "ACCOUNT_CLOSING", "IDEMPOTENCY_KEY_REUSED"})

# Those that say who asks is not let in, whoever is asked about.
_ABOUT_THE_REGISTER = frozenset({"UNAUTHORIZED", "FORBIDDEN"})

_KEY_NAMESPACE = uuid.UUID("6f5a2f0e-3f0c-4c38-9d53-5b0f4d0a7d0c")


class EBoksAdapter:
    """A MailboxAdapter that speaks the contract in openapi.json."""

    def __init__(self, settings: EBoksSettings) -> None:
        """Raises OSError where a file for mutual TLS is missing or wrong."""
        self.deadline_seconds = settings.deadline_seconds
        self._settings = settings
        self._tls = settings.tls()

    def deliver(self, delivery: pb.Delivery) -> Done | TryLater | Refused:
        """See MailboxAdapter. Refused with NO_ACCOUNT where a person without account should receive mail."""
        try:
            return self._make_it_so(delivery, time.monotonic() + self.deadline_seconds)
        except NotDone as not_done:
            if not_done.outcome == Refused("NO_ACCOUNT") and not delivery.receives_public_mail:
                # The account went after it was read.
                return Done()
            return not_done.outcome

    def _make_it_so(self, delivery: pb.Delivery, ends: float) -> Done | TryLater | Refused:
        wanted = delivery.receives_public_mail
        mailbox = self._read(delivery, ends)
        if mailbox.receives_public_mail == wanted:
            return Done()
        if not mailbox.account_exists:
            return Refused("NO_ACCOUNT")
        self._call(
            "eboks write",
            "PUT",
            "/v1/public-mailbox",
            _Wish(identifier=delivery.identifier, receives_public_mail=wanted),
            ends,
            {"Idempotency-Key": _key(delivery, mailbox), "If-Match": f'"{mailbox.version}"'},
        )
        if self._read(delivery, ends).receives_public_mail == wanted:
            return Done()
        return TryLater("READ_BACK_DIFFERS")

    def _read(self, delivery: pb.Delivery, ends: float) -> "_PublicMailbox":
        query = _Query(identifier=delivery.identifier)
        answer = self._call("eboks read", "POST", "/v1/public-mailbox/query", query, ends)
        try:
            return _PublicMailbox.model_validate_json(answer)
        except ValidationError:
            raise NotDone(TryLater("ANSWER_MALFORMED")) from None

    def _call(
        self,
        span_name: str,
        method: str,
        path: str,
        body: "_Wire",
        ends: float,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        try:
            token = self._settings.token_file.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            raise NotDone(Misconfigured("NO_TOKEN")) from None
        answer = exchange(
            span_name,
            method,
            self._settings.url + path,
            ends=ends,
            headers={
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/json",
                "Accept": "application/json, application/problem+json",
                **(headers or {}),
            },
            body=body.model_dump_json(by_alias=True).encode(),
            tls=self._tls,
        )
        if answer.status == 200:
            return answer.body
        code = _problem_code(answer.body)
        if code in _FINAL_CODES:
            raise NotDone(Refused(code))
        if code in _ABOUT_THE_REGISTER:
            raise NotDone(Misconfigured(code))
        # Also 412: the next attempt reads anew.
        raise NotDone(TryLater(answer.error_code))


class _Wire(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, strict=True, frozen=True
    )


class _Query(_Wire):
    identifier: str


class _Wish(_Wire):
    identifier: str
    receives_public_mail: bool


class _PublicMailbox(_Wire):
    account_exists: bool
    receives_public_mail: bool
    address: str = Field(max_length=100)
    version: int = Field(ge=0)


class _Problem(_Wire):
    code: str


def _key(delivery: pb.Delivery, mailbox: _PublicMailbox) -> str:
    # With the version: after a change made by others the same wish is another request, which
    # must not get the first one's answer.
    return str(
        uuid.uuid5(_KEY_NAMESPACE, f"{delivery.delivery_id}/{delivery.change_number}/{mailbox.version}")
    )


def _problem_code(body: bytes) -> str:
    try:
        return _Problem.model_validate_json(body).code
    except ValidationError:
        return ""
