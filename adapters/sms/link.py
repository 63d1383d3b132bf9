"""LINK Mobility's MyLINK SMS gateway (mylink_sms_subset.openapi.json)."""

import json
import time
from typing import Any

from krr.v1 import delivery_service_pb2 as pb
from pydantic import BaseModel, Field, ValidationError

from adapters.adapter import Refused, Sent, TryLater
from adapters.exchange import NotDone, exchange
from adapters.sms.settings import SmsSettings
from adapters.sms.token import AccessToken
from adapters.texts import UnknownText, render

GATEWAY = "LINK_MYLINK"

# A handset that was off for longer gets nothing: by then the news is old.
_EXPIRES_MILLISECONDS = 24 * 60 * 60 * 1000


class LinkGateway:
    """Sends one message per call. MyLINK knows no message again: every call taken is an SMS."""

    def __init__(self, settings: SmsSettings) -> None:
        self.deadline_seconds = settings.deadline_seconds
        self._settings = settings
        self._token = AccessToken(settings)

    def send(self, message: pb.Message) -> Sent | TryLater | Refused:
        """Hand the message over under its message_id as reference."""
        try:
            return self._send(message, time.monotonic() + self.deadline_seconds)
        except UnknownText:
            # A newer adapter may know it.
            return TryLater("UNKNOWN_TEXT")
        except NotDone as not_done:
            return not_done.outcome

    def _send(self, message: pb.Message, ends: float) -> Sent | TryLater | Refused:
        body = json.dumps([self._request(message)]).encode()
        token = self._token.get(ends)
        answer = exchange(
            "link send",
            "POST",
            f"{self._settings.url}/sms/v1/messages",
            ends=ends,
            headers={
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/json",
                "Accept": "application/json",
            },
            body=body,
        )
        match answer.status:
            case 202:
                return _sent(answer.body)
            case 400 | 403:
                return Refused(answer.error_code)
            case 401:
                self._token.drop(token)
        return TryLater(answer.error_code)

    def _request(self, message: pb.Message) -> dict[str, Any]:
        receipts_url = f"{self._settings.receipts_url}/receipts/{message.receipt_token}"
        return {
            "recipient": message.recipient,
            "content": {
                "text": render(message),
                "options": {"sms.sender": self._settings.sender, "sms.encoding": "AutoDetect"},
            },
            "referenceId": message.message_id,
            "callback": {"mode": "URL", "urls": [receipts_url]},
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
