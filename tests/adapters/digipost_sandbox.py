"""The Digipost sandbox on a real socket, and a Digipost that lies, for the tests of the adapter."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
from krr.v1 import delivery_service_pb2 as pb
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapters.adapter import Done, Refused, TryLater
from adapters.digipost import DigipostAdapter, signing
from adapters.digipost.client import DigipostClient
from adapters.digipost.entry_point import read_entry_point
from adapters.digipost.xml_body import MEDIA_TYPE, compose
from adapters.sandbox import keys
from adapters.sandbox.control import running
from adapters.sandbox.digipost import BROKER_ID, make_app, signed_answer

PERSON = "11887197158"  # synthetic, like all here: month + 80
WITHOUT_ACCOUNT = "30850649509"
NOBODY_LISTENS = "127.0.0.1:1"


class Digipost:
    """A running sandbox, and an adapter that talks to it."""

    def __init__(self, url: str, data: Path) -> None:
        self.url = url
        self.key = keys.private_key(data / "sender-key.pem")
        self.adapter = adapter_for(url, data)

    def begin_anew(self) -> None:
        """Well-behaved, and PERSON has an account without public mail."""
        self.behave("normal")
        account = {"identifier": PERSON, "address": "kari.nordmann#9YDT", "receives_public_mail": False}
        httpx.put(f"{self.url}/sandbox/accounts", json=[account]).raise_for_status()

    def behave(self, behaviour: str, slow_seconds: float = 30.0) -> None:
        order = {"behaviour": behaviour, "slow_seconds": slow_seconds}
        httpx.put(f"{self.url}/sandbox/behaviour", json=order).raise_for_status()

    def receives_public_mail(self, identifier: str = PERSON) -> bool:
        accounts = httpx.get(f"{self.url}/sandbox/accounts").json()
        return any(a["identifier"] == identifier and a["receives_public_mail"] for a in accounts)

    def links(self) -> dict[str, str]:
        answer = self.request("GET", self.url + "/")
        return read_entry_point(answer.content, self.url, 0.0).links

    def post(
        self, relation: str, body: bytes, change: Mapping[str, str | None] | None = None
    ) -> httpx.Response:
        return self.request("POST", self.links()[relation], body, change or {})

    def request(
        self, method: str, url: str, body: bytes = b"", change: Mapping[str, str | None] | None = None
    ) -> httpx.Response:
        """A soundly signed request, but for `change`: headers set or left out afterwards."""
        headers = {
            signing.DATE: signing.http_date(datetime.now(UTC)),
            signing.USER_ID: BROKER_ID,
            "Content-Type": MEDIA_TYPE,
        }
        if body:
            headers[signing.CONTENT_SHA256] = signing.content_sha256(body)
        string = signing.request_string(method, httpx.URL(url).path, "", headers)
        headers[signing.SIGNATURE] = signing.sign(string, self.key)
        sent = {name: value for name, value in {**headers, **(change or {})}.items() if value is not None}
        return httpx.request(method, url, headers=sent, content=body)

    def switch(self, on: bool, identifier: str = PERSON) -> Done | TryLater | Refused:
        return self.adapter.deliver(pb.Delivery(identifier=identifier, receives_public_mail=on))


def adapter_for(url: str, data: Path, deadline_seconds: float = 5.0) -> DigipostAdapter:
    key = keys.private_key(data / "sender-key.pem")
    return DigipostAdapter(DigipostClient(url, BROKER_ID, key), deadline_seconds)


@contextmanager
def digipost_running(data: Path, listen: str = "127.0.0.1:0") -> Iterator[Digipost]:
    with running(make_app(data, NOBODY_LISTENS), listen) as url:
        yield Digipost(url, data)


def make_data(directory: Path) -> Path:
    """A data directory with keys only: making them takes longer than any test."""
    make_app(directory, NOBODY_LISTENS)
    (directory / "accounts.sqlite").unlink()
    return directory


class Liar:
    """A Digipost with a sound entry point, where `answer` says how every other request is answered."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.answer: Callable[[Path, Request], Response] = signed_tags
        self.url = ""

    def switch(self, on: bool = True) -> Done | TryLater | Refused:
        return adapter_for(self.url, self.data).deliver(
            pb.Delivery(identifier=PERSON, receives_public_mail=on)
        )


@contextmanager
def liar_running(data: Path) -> Iterator[Liar]:
    liar = Liar(data)
    entry_point = _entry_point(data)

    def entry(request: Request) -> Response:
        # Links back to this server, under the certificate of the sound one.
        return Response(entry_point.replace(b"ORIGIN", str(request.base_url).rstrip("/").encode()))

    def other(request: Request) -> Response:
        return liar.answer(data, request)

    routes = [Route("/", entry), Route("/{path:path}", other, methods=["GET", "POST"])]
    with running(Starlette(routes=routes)) as liar.url:
        yield liar


def _entry_point(data: Path) -> bytes:
    certificate = (data / "server-certificate.pem").read_text()
    links = "".join(
        f'<link rel="https://digipost.invalid/relations/{relation}" uri="ORIGIN/{relation}"/>'
        for relation in ("GET_TAGS", "add_tag", "Remove_Tag")
    )
    return (
        '<entrypoint xmlns="http://api.digipost.no/schema/v8">'
        f"<certificate>{certificate}</certificate>{links}</entrypoint>"
    ).encode()


def signed(data: Path, request: Request, body: bytes, status: int = 200) -> Response:
    """`body` as the sound Digipost would sign it now."""
    key = keys.private_key(data / "server-key.pem")
    return signed_answer(status, request.url.path, body, key, datetime.now(UTC))


def signed_tags(data: Path, request: Request) -> Response:
    """A sound answer: no tags."""
    return signed(data, request, compose("tags"))
