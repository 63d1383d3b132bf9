"""LINK Mobility's MyLINK SMS gateway (mylink_sms_subset.openapi.json)."""

import json
import time
from typing import Any

from krr.v1 import delivery_service_pb2 as pb
from pydantic import BaseModel, Field, ValidationError

from adapters.adapter import Refused, Sent, TryLater
from adapters.exchange import exchange, http_client
from adapters.sms.token import AccessToken, ClientCredentials
from adapters.texts import UnknownText, render

GATEWAY = "LINK_MYLINK"

# A handset that was off for longer gets nothing: by then the news is old.
_EXPIRES_MILLISECONDS = 24 * 60 * 60 * 1000


class LinkGateway:
    """Sends one message per call. MyLINK knows no message again: every call taken is an SMS.

    url: base address of the gateway.
    sender: who the message says it is from.
    receipts_url: base address where the gateway reaches us with receipts.
    deadline_seconds: how long one attempt may take in all, the token included.
    """

    def __init__(
        self,
        url: str,
        credentials: ClientCredentials,
        *,
        sender: str,
        receipts_url: str,
        deadline_seconds: float,
    ) -> None:
        self._url = url
        self._sender = sender
        self._receipts_url = receipts_url
        self._deadline_seconds = deadline_seconds
        self._client = http_client()
        self._token = AccessToken(self._client, credentials)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def send(self, message: pb.Message) -> Sent | TryLater | Refused:
        """Hand the message over under its message_id as reference."""
        ends = time.monotonic() + self._deadline_seconds
        try:
            text = render(message)
        except UnknownText:
            # A newer adapter may know it.
            return TryLater("UNKNOWN_TEXT")
        token = self._token.get(ends)
        if isinstance(token, TryLater):
            return token
        answer = exchange(
            self._client,
            "link send",
            "POST",
            f"{self._url}/sms/v1/messages",
            ends=ends,
            headers={
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/json",
                "Accept": "application/json",
            },
            content=json.dumps([self._request(message, text)]).encode(),
        )
        if isinstance(answer, TryLater):
            return answer
        match answer.status:
            case 202:
                return _sent(answer.body)
            case 400 | 403:
                return Refused(answer.error_code)
            case 401:
                self._token.drop(token)
        return TryLater(answer.error_code)

    def _request(self, message: pb.Message, text: str) -> dict[str, Any]:
        return {
            "recipient": message.recipient,
            "content": {
                "text": text,
                "options": {"sms.sender": self._sender, "sms.encoding": "AutoDetect"},
            },
            "referenceId": message.message_id,
            "callback": {"mode": "URL", "urls": [f"{self._receipts_url}/receipts/{message.receipt_token}"]},
            "expiration": {"relative": _EXPIRES_MILLISECONDS},
        }


class _Accepted(BaseModel):
    messageId: str = Field(pattern="^[!-~]{1,100}$")


class _Response(BaseModel):
    messages: list[_Accepted] = Field(min_length=1, max_length=1)


def _sent(body: bytes) -> Sent | TryLater:
    try:
        return Sent(GATEWAY, _Response.model_validate_json(body).messages[0].messageId)
    except ValidationError:
        # Taken, but what it is called there did not reach us.
        return TryLater("ANSWER_LOST")
