"""Stands between an adapter and an operator's sandbox, and spoils one request as told."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapters.sandbox.control import running
from tests.adapters.fake_register import eventually
from tests.adapters.sandbox import http


@dataclass
class Passing:
    """One request on its way, and how to bring it to the operator."""

    request: Request
    forward: Callable[[], Awaitable[Response]]
    released: threading.Event

    async def cut(self) -> Response:
        """Break the connection off, as if the other side had crashed."""
        self.request.scope["state"]["abort_connection"]()
        # Until uvicorn knows that the caller is gone, it would answer.
        while (await self.request.receive())["type"] != "http.disconnect":
            pass
        return Response()

    async def wait(self) -> None:
        """Keep the connection open without a byte until the test releases it."""
        while not self.released.is_set():
            await asyncio.sleep(0.02)


Fault = Callable[[Passing], Awaitable[Response]]


async def cut(passing: Passing) -> Response:
    """The request never arrives."""
    return await passing.cut()


async def lose_answer(passing: Passing) -> Response:
    """The work is done, and the answer never arrives."""
    await passing.forward()
    return await passing.cut()


async def half_open(passing: Passing) -> Response:
    """Neither side learns that the other is gone: the request never arrives, the connection stays."""
    await passing.wait()
    return await passing.cut()


async def come_late(passing: Passing) -> Response:
    """Once released, the request arrives as if nothing had been, and is answered."""
    await passing.wait()
    return await passing.forward()


async def halve(passing: Passing) -> Response:
    """The answer ends in its middle, and says that this is all of it."""
    sound = await passing.forward()
    halved = Response(bytes(sound.body)[: len(sound.body) // 2], sound.status_code)
    kept = [header for header in sound.raw_headers if header[0] != b"content-length"]
    halved.raw_headers = [*kept, *halved.raw_headers]
    return halved


def answer(status: int, body: bytes = b"<html>somebody else's</html>") -> Fault:
    """Somebody before the operator answers in its place."""

    async def fault(_passing: Passing) -> Response:
        return Response(body, status, media_type="text/html")

    return fault


async def alter(passing: Passing) -> Response:
    """The answer says the same and is another one: a blank line more, or where there is no body, a
    changed letter in its longest header."""
    sound = await passing.forward()
    if sound.body:
        altered = Response(bytes(sound.body) + b"\n", sound.status_code)
        kept = [header for header in sound.raw_headers if header[0] != b"content-length"]
        altered.raw_headers = [*kept, *altered.raw_headers]
        return altered
    name, value = longest = max(sound.raw_headers, key=lambda header: len(header[1]))
    other = b"A" if value[:1] != b"A" else b"B"
    sound.raw_headers[sound.raw_headers.index(longest)] = (name, other + value[1:])
    return sound


@dataclass
class FaultyLink:
    """Passes requests on to the operator, all but the spoilt one.

    operator_url: where the operator's sandbox is.
    url: where adapters reach it through the link.
    targets: the address of every request since it was told to spoil one.
    """

    operator_url: str = ""
    url: str = ""
    targets: list[str] = field(default_factory=list)
    _spoilt: int | None = None
    _fault: Fault = cut
    _released: threading.Event = field(default_factory=threading.Event)
    _in_hand: int = 0
    _came: threading.Event = field(default_factory=threading.Event)

    def spoil(self, position: int, fault: Fault) -> None:
        """Do this to the request that comes after `position` others, from now on counted anew."""
        self.targets.clear()
        self._released.clear()
        self._came.clear()
        self._spoilt, self._fault = position, fault

    def heal(self) -> None:
        """Let go what is held, wait until it has arrived, and spoil nothing more."""
        self._spoilt = None
        self._released.set()
        eventually(lambda: self._in_hand == 0, 30)

    def wait_until_spoilt(self) -> None:
        """Until the request that is to be spoilt has come."""
        assert self._came.wait(30), "no such request"

    async def _pass(self, request: Request) -> Response:
        target = request.scope["raw_path"].decode() + "?" + request.scope["query_string"].decode()
        body = await request.body()
        position = len(self.targets)
        self.targets.append(target)
        self._in_hand += 1

        async def forward() -> Response:
            return await asyncio.to_thread(self._forward, request, target, body)

        try:
            if position == self._spoilt:
                self._came.set()
                return await self._fault(Passing(request, forward, self._released))
            return await forward()
        finally:
            self._in_hand -= 1

    def _forward(self, request: Request, target: str, body: bytes) -> Response:
        answered = http.request(
            request.method, self.operator_url + target.rstrip("?"), headers=request.headers.raw, content=body
        )
        passed_on = Response(answered.content, answered.status_code)
        passed_on.raw_headers = [
            (name.lower(), value)
            for name, value in answered.headers.raw
            if name.lower() not in (b"connection", b"transfer-encoding")
        ]
        return passed_on


@contextmanager
def faulty_link() -> Iterator[FaultyLink]:
    """A link that serves, and still needs to be told the operator."""
    link = FaultyLink()

    async def pass_on(request: Request) -> Response:
        return await link._pass(request)

    methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]
    with running(Starlette(routes=[Route("/{path:path}", pass_on, methods=methods)])) as link.url:
        try:
            yield link
        finally:
            link.heal()
