"""The Digipost sandbox on a real socket, and a Digipost that lies, for the tests of the adapter."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapters.adapter import Done, Refused, TryLater
from adapters.digipost import DigipostAdapter, DigipostSettings, signing
from adapters.digipost.entry_point import read_entry_point
from adapters.digipost.xml_body import MEDIA_TYPE, compose
from adapters.sandbox import keys
from adapters.sandbox.control import running
from adapters.sandbox.digipost import BROKER_ID, make_app, signed_answer
from tests.adapters.sandbox import NOBODY_LISTENS, PERSON, Sandbox, http, wish


class Digipost(Sandbox):
    """A running sandbox, and an adapter that talks to it."""

    def __init__(self, url: str, data: Path) -> None:
        super().__init__(url)
        self.data = data
        self.key = keys.private_key(data / "sender-key.pem")
        self.adapter = self.adapter_for(url)

    def adapter_for(self, url: str, deadline_seconds: float = 5.0) -> DigipostAdapter:
        return digipost_adapter(url, self.data, deadline_seconds)

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
        return http.request(method, url, headers=sent, content=body)

    def switch(self, on: bool, identifier: str = PERSON) -> Done | TryLater | Refused:
        return self.adapter.deliver(wish(on, identifier))


def digipost_adapter(url: str, data: Path, deadline_seconds: float = 5.0) -> DigipostAdapter:
    return DigipostAdapter(digipost_settings(url, data, deadline_seconds))


def digipost_settings(url: str, data: Path, deadline_seconds: float = 5.0) -> DigipostSettings:
    return DigipostSettings(
        url=url, broker_id=BROKER_ID, key_file=data / "sender-key.pem", deadline_seconds=deadline_seconds
    )


@contextmanager
def digipost_running(data: Path, listen: str = "127.0.0.1:0") -> Iterator[Digipost]:
    with running(make_app(data, NOBODY_LISTENS), listen) as url:
        yield Digipost(url, data)


class Liar:
    """A Digipost with a sound entry point, where `answer` says how every other request is answered."""

    def __init__(self, url: str, data: Path) -> None:
        self.key = keys.private_key(data / "server-key.pem")
        self.strangers_key = keys.private_key(data / "sender-key.pem")
        self.answer: Callable[[Request], Response] = self.signed_tags
        self.entry_point = _entry_point(data)
        self.settings = digipost_settings(url, data)
        self.adapter = DigipostAdapter(self.settings)

    def switch(self, on: bool = True) -> Done | TryLater | Refused:
        return self.adapter.deliver(wish(on))

    def signed(self, request: Request, body: bytes, status: int = 200) -> Response:
        """`body` as the sound Digipost would sign it now."""
        return signed_answer(status, request.url.path, body, self.key, datetime.now(UTC))

    @contextmanager
    def entry_point_being(self, body: bytes) -> Iterator[None]:
        """This entry point in place of the sound one; ORIGIN stands for the server's address."""
        sound, self.entry_point = self.entry_point, body
        try:
            yield
        finally:
            self.entry_point = sound

    def signed_tags(self, request: Request) -> Response:
        """A sound answer: no tags."""
        return self.signed(request, compose("tags"))


@contextmanager
def liar_running(data: Path) -> Iterator[Liar]:
    def entry(request: Request) -> Response:
        # Links back to this server, under the certificate of the sound one.
        return Response(liar.entry_point.replace(b"ORIGIN", str(request.base_url).rstrip("/").encode()))

    def other(request: Request) -> Response:
        return liar.answer(request)

    routes = [Route("/", entry), Route("/{path:path}", other, methods=["GET", "POST"])]
    with running(Starlette(routes=routes)) as url:
        liar = Liar(url, data)
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
