"""LINK Mobility's MyLINK SMS gateway (mylink_sms_subset.openapi.json)."""

import json
import time
from datetime import timedelta
from typing import Any

from krr.v1 import delivery_service_pb2 as pb
from pydantic import BaseModel, Field, ValidationError

from adapters.adapter import Refused, Sent, TryLater, Unsure
from adapters.exchange import NotDone, exchange
from adapters.sms.expiry import time_left
from adapters.sms.parts import cost_class, split
from adapters.sms.settings import LinkSettings
from adapters.sms.token import AccessToken
from adapters.texts import UnknownText, render
from adapters.work import WAIT_FOR_RECEIPT

GATEWAY = "LINK_MYLINK"

# MyLINK takes no longer time.
_LONGEST = timedelta(hours=48)


class LinkGateway:
    """Sends one message per call. MyLINK knows no message again: every call taken is an SMS."""

    def __init__(self, settings: LinkSettings) -> None:
        self.deadline_seconds = settings.deadline_of_each
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
            return not_done.of_message

    def _send(self, message: pb.Message, ends: float) -> Sent | TryLater | Refused:
        text, left = render(message), min(time_left(message), _LONGEST)
        milliseconds = left // timedelta(milliseconds=1)
        if milliseconds <= 0:
            return Refused("EXPIRED")
        body = json.dumps([self._request(message, text, milliseconds)]).encode()
        # What may have been taken before is sent once more only: not into an outage that goes on.
        token = self._token.get(ends, fresh=message.failed_attempts > 0)
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
                return _sent(answer.body, message, text)
            case 400 | 403:
                return Refused(answer.error_code)
            case 401:
                self._token.drop(token)
        if 200 <= answer.status < 300:
            return Unsure(answer.error_code)
        # One that says so itself hardly took it; a proxy that says so does not know.
        return TryLater(answer.error_code, wait_seconds=WAIT_FOR_RECEIPT if answer.status >= 500 else 0.0)

    def _request(self, message: pb.Message, text: str, milliseconds: int) -> dict[str, Any]:
        receipts_url = f"{self._settings.receipts_url}/receipts/{message.receipt_token}"
        return {
            "recipient": message.recipient,
            "content": {
                "text": text,
                "options": {"sms.sender": self._settings.sender, "sms.encoding": "AutoDetect"},
            },
            "referenceId": message.message_id,
            "callback": {"mode": "URL", "urls": [receipts_url]},
            "expiration": {"relative": milliseconds},
        }


class _Accepted(BaseModel):
    messageId: str = Field(pattern="^[!-~]{1,100}$")


class _Response(BaseModel):
    messages: list[_Accepted] = Field(min_length=1, max_length=1)


def _sent(body: bytes, message: pb.Message, text: str) -> Sent | Unsure:
    try:
        its_id = _Response.model_validate_json(body).messages[0].messageId
    except ValidationError:
        # Taken, but what it is called there did not reach us.
        return Unsure("ANSWER_LOST")
    return Sent(GATEWAY, its_id, len(split(text).parts), cost_class(message.recipient))
