"""The third operator's sandbox, written from tests/adapters/template_operator.py."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapters.sandbox.control import running
from tests.adapters.sandbox import PERSON
from tests.adapters.third_operator import (
    Order,
    Subscription,
    ThirdOperatorAdapter,
    ThirdOperatorSettings,
    signature,
)

_ACCEPTED_SECONDS = 300


class ThirdOperator:
    """The sandbox: who has an account, and whether its subscription runs."""

    identity_in_addresses = False
    signed_from: int | None = 0

    def __init__(self, folder: Path) -> None:
        self.url = ""
        self.subscriptions: dict[str, bool] = {}
        self.key_file = _new_key(folder / "key")
        self._strangers_key_file = _new_key(folder / "strangers-key")
        self._refuses = False
        self._clock = time.time

    def begin_anew(self) -> None:
        self.subscriptions = {PERSON: False}

    def adapter_for(self, url: str, deadline_seconds: float) -> ThirdOperatorAdapter:
        return ThirdOperatorAdapter(
            ThirdOperatorSettings(url=url, key_file=self.key_file, deadline_seconds=deadline_seconds)
        )

    def strangers_adapter(self, url: str) -> ThirdOperatorAdapter:
        return ThirdOperatorAdapter(ThirdOperatorSettings(url=url, key_file=self._strangers_key_file))

    def seed(self, *, receives: bool) -> None:
        self.subscriptions[PERSON] = receives

    def receives_public_mail(self) -> bool:
        return self.subscriptions[PERSON]

    @contextmanager
    def refusing(self) -> Iterator[None]:
        self._refuses = True
        try:
            yield
        finally:
            self._refuses = False

    @contextmanager
    def clock_off(self) -> Iterator[None]:
        self._clock = lambda: time.time() + 3600
        try:
            yield
        finally:
            self._clock = time.time

    async def answer(self, request: Request) -> Response:
        """The operator's one address."""
        key, body = self.key_file.read_bytes(), await request.body()
        moment, signed = request.headers.get("x-time", "0"), request.headers.get("x-signature", "")
        if signed != signature(key, moment, body):
            status, said = 401, Subscription(error="WRONG_SIGNATURE")
        elif abs(self._clock() - int(moment)) > _ACCEPTED_SECONDS:
            status, said = 400, Subscription(error="WRONG_TIME")
        else:
            status, said = self._follow(Order.model_validate_json(body))
        text = said.model_dump_json().encode()
        return Response(text, status, {"X-Signature": signature(key, f"{status} {signed}", text)})

    def _follow(self, order: Order) -> tuple[int, Subscription]:
        if order.person not in self.subscriptions:
            return 404, Subscription(error="NO_ACCOUNT")
        if order.action != "status":
            if self._refuses:
                return 409, Subscription(error="ACCOUNT_CLOSED")
            self.subscriptions[order.person] = order.action == "start"
        return 200, Subscription(running=self.subscriptions[order.person])


@contextmanager
def third_operator(folder: Path) -> Iterator[ThirdOperator]:
    """The sandbox, running; keys go into the folder."""
    operator = ThirdOperator(folder)
    app = Starlette(routes=[Route("/subscription", operator.answer, methods=["POST"])])
    with running(app) as operator.url:
        operator.begin_anew()
        yield operator


def _new_key(file: Path) -> Path:
    file.write_bytes(secrets.token_bytes(32))
    return file
