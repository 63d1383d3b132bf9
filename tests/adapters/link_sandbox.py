"""The LINK sandbox on a real socket, and messages to send through it, for the tests of SMS."""

import uuid
from pathlib import Path
from typing import Any

import httpx
from krr.v1 import delivery_service_pb2 as pb
from krr.v1 import person_pb2

from adapters.sandbox.link import CLIENT_ID, TOKEN_PATH
from adapters.sms import LinkGateway, LinkSettings
from tests.adapters.sandbox import NOBODY_LISTENS, Sandbox, http

MOBILE = "+4799999999"
TOKEN = "9b2f6c1e-0a53-4d0c-9c55-3f1f0f6c2f11"
SECOND_TOKEN = "1d7d3f0a-55c4-4f27-8a34-6f0d7f3b9a02"


def message(**other: Any) -> pb.Message:
    return pb.Message(
        **{
            "message_id": str(uuid.uuid4()),
            "lease_token": "lease",
            "kind": pb.MESSAGE_KIND_MAILBOX_CHOSEN,
            "language": person_pb2.LANGUAGE_NB,
            "recipient": MOBILE,
            "operator_name": "Digipost",
            "synthetic_person": True,
            "receipt_token": TOKEN,
            **other,
        }
    )


def gateway_for(
    url: str,
    secret_file: Path,
    *,
    receipts_url: str = f"http://{NOBODY_LISTENS}",
    deadline_seconds: float = 5.0,
) -> LinkGateway:
    return LinkGateway(
        LinkSettings(
            url=url,
            token_url=url + TOKEN_PATH,
            client_id=CLIENT_ID,
            client_secret_file=secret_file,
            receipts_url=receipts_url,
            deadline_seconds=deadline_seconds,
        )
    )


class Link(Sandbox):
    """A running sandbox, and a gateway that talks to it."""

    def __init__(self, url: str, data: Path) -> None:
        super().__init__(url)
        self.secret_file = data / "client-secret"
        self.gateway = gateway_for(url, self.secret_file)
        self._earlier = 0

    def begin_anew(self) -> None:
        """Well-behaved, messages sent so far forgotten."""
        self.behave("normal")
        self.report(2000)
        self._earlier += len(self.messages())

    def report(self, code: int) -> None:
        http.put(f"{self.url}/sandbox/report", json={"code": code}).raise_for_status()

    def messages(self) -> list[dict[str, str]]:
        sent: list[dict[str, str]] = http.get(f"{self.url}/sandbox/messages").json()
        return sent[self._earlier :]

    def token(self, secret: str | None = None) -> httpx.Response:
        form = {
            "grant_type": "client_credentials",
            "client_id": CLIENT_ID,
            "client_secret": self.secret_file.read_text() if secret is None else secret,
        }
        return http.post(self.url + TOKEN_PATH, data=form)

    def post(self, batch: object) -> httpx.Response:
        bearer = self.token().json()["access_token"]
        return http.post(
            f"{self.url}/sms/v1/messages", json=batch, headers={"Authorization": f"Bearer {bearer}"}
        )
