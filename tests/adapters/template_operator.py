"""A sandbox that speaks the wire format of the template, with as little in it as the suite needs."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapters.sandbox.control import running
from adapters.template import TemplateAdapter, TemplateSettings
from tests.adapters.sandbox import PERSON

_TOKEN = "a-token-of-the-sandbox"


class TemplateOperator:
    """The sandbox: who has an account, and whether it receives public mail."""

    identity_in_addresses = False
    signed_from: int | None = None

    def __init__(self, folder: Path) -> None:
        self.url = ""
        self._folder = folder
        self._public_mail: dict[str, bool] = {}
        self._refuses = False

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/public-mail/search", self._search, methods=["POST"]),
                Route("/public-mail", self._write, methods=["PUT"]),
            ]
        )

    def begin_anew(self) -> None:
        self._public_mail = {PERSON: False}

    def adapter_for(self, url: str, deadline_seconds: float) -> TemplateAdapter:
        return self._adapter(url, _TOKEN, deadline_seconds)

    def strangers_adapter(self, url: str) -> TemplateAdapter:
        return self._adapter(url, "a-token-of-somebody-else", 30.0)

    def seed(self, *, receives: bool) -> None:
        self._public_mail[PERSON] = receives

    def receives_public_mail(self) -> bool:
        return self._public_mail[PERSON]

    @contextmanager
    def refusing(self) -> Iterator[None]:
        self._refuses = True
        try:
            yield
        finally:
            self._refuses = False

    def clock_off(self) -> nullcontext[None]:
        return nullcontext()

    def _adapter(self, url: str, token: str, deadline_seconds: float) -> TemplateAdapter:
        token_file = self._folder / f"{token}.txt"
        token_file.write_text(token)
        return TemplateAdapter(
            TemplateSettings(url=url, token_file=token_file, deadline_seconds=deadline_seconds)
        )

    async def _search(self, request: Request) -> Response:
        person = (await request.json())["person"]
        if request.headers.get("authorization") != f"Bearer {_TOKEN}":
            return JSONResponse({"error": "UNKNOWN_TOKEN"}, 403)
        if person not in self._public_mail:
            return JSONResponse({"error": "NO_ACCOUNT"}, 404)
        return JSONResponse({"person": person, "public_mail": self._public_mail[person]})

    async def _write(self, request: Request) -> Response:
        account = await request.json()
        if request.headers.get("authorization") != f"Bearer {_TOKEN}":
            return JSONResponse({"error": "UNKNOWN_TOKEN"}, 403)
        if self._refuses:
            return JSONResponse({"error": "ACCOUNT_CLOSED"}, 409)
        self._public_mail[account["person"]] = account["public_mail"]
        return JSONResponse(account)


@contextmanager
def template_operator(folder: Path) -> Iterator[TemplateOperator]:
    """The sandbox, running; its adapters' files go into the folder."""
    operator = TemplateOperator(folder)
    with running(operator.app()) as operator.url:
        operator.begin_anew()
        yield operator
