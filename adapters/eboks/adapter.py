"""Keeps e-Boks in step with the register: read, write where it differs, read back."""

import time
import uuid
from collections.abc import Mapping
from itertools import pairwise

from krr.v1 import delivery_service_pb2 as pb
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from adapters.adapter import AccountPage, AccountState, Done, Misconfigured, Refused, TryLater
from adapters.eboks.settings import EBoksSettings
from adapters.exchange import LARGEST_ANSWER, NotDone, exchange

# The contract's final refusals. A status without one of these codes is somebody else's, such
# as a proxy's 404, and says nothing about the person.
_FINAL_CODES = frozenset({"INVALID_REQUEST", "NO_ACCOUNT", "ACCOUNT_CLOSING", "IDEMPOTENCY_KEY_REUSED"})

# Those that say who asks is not let in, whoever is asked about.
_ABOUT_THE_REGISTER = frozenset({"UNAUTHORIZED", "FORBIDDEN"})

# How many accounts are listed at once; the longest of them fit into the answer.
_LISTED_AT_ONCE = 400
_LARGEST_LIST = 512 * 1024

_KEY_NAMESPACE = uuid.UUID("6f5a2f0e-3f0c-4c38-9d53-5b0f4d0a7d0c")


class EBoksAdapter:
    """A MailboxAdapter and AccountReader that speaks the contract in openapi.json."""

    def __init__(self, settings: EBoksSettings) -> None:
        """Raises OSError where a file for mutual TLS is missing or wrong."""
        self.deadline_seconds = settings.deadline_seconds
        self._settings = settings
        self._tls = settings.tls()

    def deliver(self, delivery: pb.Delivery) -> Done | TryLater | Refused:
        """See MailboxAdapter. Refused with NO_ACCOUNT where a person without account should receive mail."""
        if delivery.HasField("open_account"):
            return Refused("ACCOUNT_NOT_OPENED")
        try:
            return self._make_it_so(delivery, time.monotonic() + self.deadline_seconds)
        except NotDone as not_done:
            if not_done.outcome == Refused("NO_ACCOUNT") and not delivery.receives_public_mail:
                # The account went after it was read.
                return Done()
            return not_done.outcome

    def read(self, identifier: str) -> AccountState | TryLater:
        """See AccountReader. The operator's contract tells no certificate."""
        try:
            mailbox = self._read(identifier, time.monotonic() + self.deadline_seconds)
        except NotDone as not_done:
            return not_done.of_read
        if mailbox.receives_public_mail and not mailbox.account_exists:
            return TryLater("ANSWER_MALFORMED")
        address = mailbox.address if mailbox.account_exists else ""
        return AccountState(mailbox.receives_public_mail, mailbox.account_exists, address or None)

    def _make_it_so(self, delivery: pb.Delivery, ends: float) -> Done | TryLater | Refused:
        wanted = delivery.receives_public_mail
        mailbox = self._read(delivery.identifier, ends)
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
        if self._read(delivery.identifier, ends).receives_public_mail == wanted:
            return Done()
        return TryLater("READ_BACK_DIFFERS")

    def _read(self, identifier: str, ends: float) -> "_PublicMailbox":
        query = _Query(identifier=identifier)
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
        largest_answer: int = LARGEST_ANSWER,
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
            largest_answer=largest_answer,
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


class ListingEBoksAdapter(EBoksAdapter):
    """An AccountLister besides, where the operator serves the contract's list."""

    def list_after(self, identifier: str) -> AccountPage | TryLater:
        """See AccountLister."""
        ends = time.monotonic() + self.deadline_seconds
        query = _ListQuery(after=identifier, limit=_LISTED_AT_ONCE)
        try:
            answer = self._call(
                "eboks list", "POST", "/v1/public-mailbox/list", query, ends, largest_answer=_LARGEST_LIST
            )
            listed = _AccountList.model_validate_json(answer)
        except NotDone as not_done:
            return not_done.of_read
        except ValidationError:
            return TryLater("ANSWER_MALFORMED")
        order = [identifier, *(account.identifier for account in listed.accounts)]
        rises = all(before < after for before, after in pairwise(order))
        # Whom a list out of order leaves out would be taken for absent; an empty part would come for ever.
        if not rises or not (listed.accounts or listed.last):
            return TryLater("ANSWER_MALFORMED")
        return AccountPage(
            tuple((account.identifier, account.state()) for account in listed.accounts), listed.last
        )


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


class _ListQuery(_Wire):
    after: str
    limit: int


class _ListedAccount(_Wire):
    identifier: str = Field(pattern="^[0-9]{11}$")
    receives_public_mail: bool
    address: str = Field(max_length=100)
    version: int = Field(ge=1)

    def state(self) -> AccountState:
        return AccountState(self.receives_public_mail, account_exists=True, address=self.address or None)


class _AccountList(_Wire):
    accounts: list[_ListedAccount] = Field(max_length=_LISTED_AT_ONCE)
    last: bool


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
