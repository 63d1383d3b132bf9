"""Keeps e-Boks in step with the register: read, write where it differs, read back."""

import time
import uuid
from pathlib import Path

from krr.v1 import delivery_service_pb2 as pb
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from adapters.adapter import Done, Refused, TryLater
from adapters.exchange import Answer, exchange, http_client

# The contract's final refusals. A status without one of these codes is somebody else's, such
# as a proxy's 404, and says nothing about the person.
_FINAL_CODES = frozenset(
    {"INVALID_REQUEST", "FORBIDDEN", "NO_ACCOUNT", "ACCOUNT_CLOSING", "IDEMPOTENCY_KEY_REUSED"}
)

_KEY_NAMESPACE = uuid.UUID("6f5a2f0e-3f0c-4c38-9d53-5b0f4d0a7d0c")


class EBoksAdapter:
    """Speaks the contract in openapi.json.

    url: base address of the operator.
    token_file: holds the bearer token.
    deadline_seconds: how long one attempt may take in all.
    """

    def __init__(self, url: str, *, token_file: Path, deadline_seconds: float) -> None:
        self._url = url
        self._token_file = token_file
        self._deadline_seconds = deadline_seconds
        self._client = http_client()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def deliver(self, delivery: pb.Delivery) -> Done | TryLater | Refused:
        """Make the account receive public mail, or no longer.

        Refused with NO_ACCOUNT where the person has no account and should receive mail there.
        """
        ends = time.monotonic() + self._deadline_seconds
        wanted = delivery.receives_public_mail
        mailbox = self._query(delivery, ends)
        if not isinstance(mailbox, _PublicMailbox):
            return mailbox
        if mailbox.receives_public_mail == wanted:
            return Done()
        if not mailbox.account_exists:
            return Refused("NO_ACCOUNT")
        answer = self._call(
            "eboks write",
            "PUT",
            "/v1/public-mailbox",
            _Wish(identifier=delivery.identifier, receives_public_mail=wanted),
            {"Idempotency-Key": _key(delivery, mailbox), "If-Match": f'"{mailbox.version}"'},
            ends,
        )
        if not isinstance(answer, Answer):
            return answer
        mailbox = self._query(delivery, ends)
        if not isinstance(mailbox, _PublicMailbox):
            return mailbox
        return Done() if mailbox.receives_public_mail == wanted else TryLater("NOT_AS_WRITTEN")

    def _query(self, delivery: pb.Delivery, ends: float) -> "_PublicMailbox | TryLater | Refused":
        answer = self._call(
            "eboks read",
            "POST",
            "/v1/public-mailbox/query",
            _Query(identifier=delivery.identifier),
            {},
            ends,
        )
        if not isinstance(answer, Answer):
            return answer
        try:
            return _PublicMailbox.model_validate_json(answer.body)
        except ValidationError:
            return TryLater("MALFORMED_ANSWER")

    def _call(
        self,
        span_name: str,
        method: str,
        path: str,
        body: "_Wire",
        headers: dict[str, str],
        ends: float,
    ) -> Answer | TryLater | Refused:
        try:
            token = self._token_file.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            return TryLater("NO_TOKEN")
        answer = exchange(
            self._client,
            span_name,
            method,
            self._url + path,
            ends=ends,
            headers={
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/json",
                "Accept": "application/json, application/problem+json",
                **headers,
            },
            content=body.model_dump_json(by_alias=True).encode(),
        )
        if isinstance(answer, TryLater) or answer.status == 200:
            return answer
        code = _problem_code(answer)
        if code in _FINAL_CODES:
            return Refused(code)
        # Also 401, for the token file may be about to be replaced, and 412: the next attempt
        # reads anew.
        return TryLater(answer.error_code)


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


def _problem_code(answer: Answer) -> str | None:
    try:
        return _Problem.model_validate_json(answer.body).code
    except ValidationError:
        return None
