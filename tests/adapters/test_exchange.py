"""One request to a supplier: whole within its deadline, and to that address only."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from adapters.adapter import TryLater
from adapters.exchange import Answer, NotDone, exchange
from adapters.sandbox.control import running
from tests.adapters.sandbox import NOBODY_LISTENS


def answer_to(url: str, seconds: float = 5.0) -> Answer | str:
    """The answer, or the error code in its place."""
    began = time.monotonic()
    try:
        return exchange("test", "GET", url, ends=began + seconds, headers={})
    except NotDone as not_done:
        # Nothing that knows the address hangs on it.
        assert not_done.__context__ is None
        assert isinstance(not_done.outcome, TryLater)
        return not_done.outcome.error_code
    finally:
        assert time.monotonic() - began < seconds + 0.8


async def _endless(_request: Request) -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 10_000
            await asyncio.sleep(0.001)

    return StreamingResponse(chunks())


async def _trickling_body(_request: Request) -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.05)

    return StreamingResponse(chunks())


@pytest.fixture(scope="module")
def supplier() -> Iterator[str]:
    routes = [
        Route("/sound", lambda request: Response(repr(request.headers.raw), headers={"X-Own": "1"})),
        Route("/moved", lambda _: RedirectResponse("/sound")),
        Route("/endless", _endless),
        Route("/trickling", _trickling_body),
        Route("/headers", lambda _: Response(headers={"X-Own": "x" * 1_000_000})),
    ]
    with running(Starlette(routes=routes)) as url:
        yield url


def test_an_answer_has_status_headers_and_body(supplier: str, spans: InMemorySpanExporter) -> None:
    answer = answer_to(f"{supplier}/sound?secret")
    assert isinstance(answer, Answer)
    assert (answer.status, answer.headers["x-own"]) == (200, "1")
    assert b"(b'accept-encoding', b'identity')" in answer.body
    (span,) = spans.get_finished_spans()
    assert (span.name, dict(span.attributes or {})) == (
        "test",
        {"http.request.method": "GET", "http.response.status_code": 200},
    )


def test_a_redirect_is_an_answer(supplier: str) -> None:
    answer = answer_to(f"{supplier}/moved")
    assert isinstance(answer, Answer)
    assert answer.error_code == "HTTP_307"


def test_a_proxy_of_the_environment_is_not_taken(supplier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{NOBODY_LISTENS}")
    monkeypatch.setenv("all_proxy", f"http://{NOBODY_LISTENS}")
    assert isinstance(answer_to(f"{supplier}/sound"), Answer)


def test_an_answer_without_end_is_too_large(supplier: str) -> None:
    assert answer_to(f"{supplier}/endless") == "ANSWER_TOO_LARGE"


def test_headers_that_are_too_large_are_not_read(supplier: str) -> None:
    assert answer_to(f"{supplier}/headers") == "ANSWER_LOST"


def test_a_body_that_trickles_is_given_up_within_the_deadline(supplier: str) -> None:
    assert answer_to(f"{supplier}/trickling", seconds=0.3) == "TIMEOUT"


def test_without_time_left_nothing_is_sent(supplier: str) -> None:
    assert answer_to(f"{supplier}/sound", seconds=0) == "OUT_OF_TIME"


def test_a_name_look_up_that_hangs_is_given_up_within_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object, **__: object) -> None:
        time.sleep(1.5)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    assert answer_to("http://supplier.invalid", seconds=0.2) == "UNREACHABLE"


def test_a_handshake_that_hangs_is_given_up_within_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = "https://{}:{}".format(*listener.getsockname())
        assert answer_to(url, seconds=0.2) == "UNREACHABLE"
