"""The LINK sandbox on a real socket, and messages to send through it, for the tests of SMS."""

import uuid
from pathlib import Path
from typing import Any

import httpx
from krr.v1 import delivery_service_pb2 as pb
from krr.v1 import person_pb2

from adapters.sandbox.link import CLIENT_ID, TOKEN_PATH
from adapters.sms import LinkGateway
from adapters.sms.token import ClientCredentials

# One for all: each new client reads the list of authorities anew.
http = httpx.Client(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))

MOBILE = "+4799999999"
TOKEN = "9b2f6c1e-0a53-4d0c-9c55-3f1f0f6c2f11"
NOBODY_LISTENS = "http://127.0.0.1:1"


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
    url: str, secret_file: Path, *, receipts_url: str = NOBODY_LISTENS, deadline_seconds: float = 5
) -> LinkGateway:
    return LinkGateway(
        url,
        ClientCredentials(token_url=url + TOKEN_PATH, client_id=CLIENT_ID, client_secret_file=secret_file),
        sender="Digdir",
        receipts_url=receipts_url,
        deadline_seconds=deadline_seconds,
    )


class Link:
    """A running sandbox, and a gateway that talks to it."""

    def __init__(self, url: str, data: Path) -> None:
        self.url = url
        self.secret_file = data / "client-secret"
        self.gateway = gateway_for(url, self.secret_file)

    def behave(self, behaviour: str, slow_seconds: float = 30.0) -> None:
        order = {"behaviour": behaviour, "slow_seconds": slow_seconds}
        http.put(f"{self.url}/sandbox/behaviour", json=order).raise_for_status()

    def messages(self) -> list[dict[str, str]]:
        sent: list[dict[str, str]] = http.get(f"{self.url}/sandbox/messages").json()
        return sent

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
