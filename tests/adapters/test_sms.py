"""The SMS gateway LINK against its sandbox, and against a LINK that answers badly."""

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from krr.v1 import delivery_service_pb2 as pb
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapters.adapter import Refused, Sent, TryLater, Unsure
from adapters.sandbox.control import running
from adapters.sandbox.link import TOKEN_PATH
from tests.adapters.link_sandbox import MOBILE, Link, gateway_for, message


def test_a_message_is_sent_under_its_id(link: Link) -> None:
    wanted = message()
    sent = link.gateway.send(wanted)
    (kept,) = link.messages()
    assert sent == Sent("LINK_MYLINK", kept["message_id"], 1, pb.COST_CLASS_SMS_DOMESTIC)
    assert kept["reference_id"] == wanted.message_id
    assert kept["recipient"] == MOBILE
    assert kept["text"].startswith("Du har valgt Digipost ")


def test_a_gateway_that_is_down_is_tried_later(link: Link) -> None:
    link.behave("down")
    assert isinstance(link.gateway.send(message()), TryLater)
    link.behave("normal")
    assert isinstance(link.gateway.send(message()), Sent)
    assert len(link.messages()) == 1


def test_what_may_have_been_taken_is_not_sent_into_an_outage_that_goes_on(link: Link) -> None:
    assert isinstance(link.gateway.send(message()), Sent)
    link.behave("down")
    once = message()
    assert link.gateway.send(once) == Unsure("ANSWER_LOST")
    once.failed_attempts = 1
    assert link.gateway.send(once) == TryLater("TOKEN_ANSWER_LOST")
    link.behave("normal")
    assert isinstance(link.gateway.send(once), Sent)
    assert [each["reference_id"] for each in link.messages()][1:] == [once.message_id]


def test_a_refusal_is_final(link: Link) -> None:
    link.behave("refuse")
    assert link.gateway.send(message()) == Refused("HTTP_400")
    assert link.messages() == []


def test_after_a_lost_answer_the_message_goes_out_again_with_the_same_reference(link: Link) -> None:
    wanted = message()
    link.behave("lose_answer")
    assert link.gateway.send(wanted) == Unsure("ANSWER_LOST")
    link.behave("normal")
    assert isinstance(link.gateway.send(wanted), Sent)
    assert [kept["reference_id"] for kept in link.messages()] == [wanted.message_id] * 2


def test_a_kind_that_only_newer_programs_know_waits_for_one(link: Link) -> None:
    assert link.gateway.send(message(kind=99)) == TryLater("UNKNOWN_TEXT")
    assert link.messages() == []


# --- tokens


class Script:
    """A LINK that gives out these token answers and these answers to messages, in order."""

    def __init__(self) -> None:
        self.issued: list[Any] = []
        self.answers: list[Response] = []
        self.tokens_seen: list[str] = []
        self.sent: list[Any] = []
        self.url = ""

    async def token(self, _request: Request) -> Response:
        return JSONResponse(self.issued.pop(0))

    async def send(self, request: Request) -> Response:
        self.sent.append(await request.json())
        self.tokens_seen.append(request.headers["authorization"])
        return self.answers.pop(0)


@pytest.fixture(scope="module")
def script() -> Iterator[Script]:
    played = Script()
    routes = [
        Route(TOKEN_PATH, played.token, methods=["POST"]),
        Route("/sms/v1/messages", played.send, methods=["POST"]),
    ]
    with running(Starlette(routes=routes)) as played.url:
        yield played


def accepted() -> Response:
    return JSONResponse({"requestId": str(uuid.uuid4()), "messages": [{"messageId": str(uuid.uuid4())}]}, 202)


def test_a_token_is_used_until_shortly_before_it_runs_out_and_dropped_when_refused(
    script: Script, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    script.issued = [
        {"access_token": "one", "expires_in": 300},
        {"access_token": "two", "expires_in": 0.2},
        {"access_token": "three", "expires_in": 300},
    ]
    script.answers = [accepted(), accepted(), Response(status_code=401), accepted(), accepted()]
    script.tokens_seen = []
    gateway = gateway_for(script.url, tmp_path / "secret")
    assert isinstance(gateway.send(message()), Sent)
    assert isinstance(gateway.send(message()), Sent)
    assert gateway.send(message()) == TryLater("HTTP_401")
    assert isinstance(gateway.send(message()), Sent)
    time.sleep(0.2)
    assert isinstance(gateway.send(message()), Sent)
    assert script.tokens_seen == [f"Bearer {token}" for token in ("one", "one", "one", "two", "three")]


@pytest.mark.parametrize(
    "issued", [{}, [], {"access_token": "a\nb", "expires_in": 1}, {"access_token": "a", "expires_in": 0}]
)
def test_a_malformed_token_answer_is_tried_later(script: Script, tmp_path: Path, issued: object) -> None:
    (tmp_path / "secret").write_text("secret")
    script.issued = [issued]
    gateway = gateway_for(script.url, tmp_path / "secret")
    assert gateway.send(message()) == TryLater("TOKEN_ANSWER_MALFORMED")


def test_a_wrong_or_missing_secret_is_tried_later(link: Link, tmp_path: Path) -> None:
    gateway = gateway_for(link.url, tmp_path / "secret")
    assert gateway.send(message()) == TryLater("NO_CLIENT_SECRET")
    (tmp_path / "secret").write_text("wrong")
    assert gateway.send(message()) == TryLater("TOKEN_HTTP_401")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Response(status_code=403), Refused("HTTP_403")),
        (Response(status_code=429), TryLater("HTTP_429")),
        (Response(status_code=500), TryLater("HTTP_500", wait_seconds=10)),
        (Response(status_code=502), TryLater("HTTP_502", wait_seconds=10)),
        (Response(status_code=404), TryLater("HTTP_404")),
        (Response(status_code=200), Unsure("HTTP_200")),
        (Response(b"{}", 202), Unsure("ANSWER_LOST")),
        (JSONResponse({"messages": [{"messageId": "x" * 101}]}, 202), Unsure("ANSWER_LOST")),
    ],
)
def test_an_answer_of_the_gateway_becomes_an_outcome(
    script: Script, tmp_path: Path, answer: Response, outcome: TryLater | Refused
) -> None:
    (tmp_path / "secret").write_text("secret")
    script.issued, script.answers = [{"access_token": "one", "expires_in": 300}], [answer]
    gateway = gateway_for(script.url, tmp_path / "secret")
    assert gateway.send(message()) == outcome


@pytest.mark.parametrize(
    ("left", "milliseconds"),
    [(timedelta(minutes=10), 600_000), (timedelta(days=30), 48 * 3_600_000)],
)
def test_no_message_comes_after_it_is_news_nor_is_asked_to_come_later_than_link_allows(
    link: Link, script: Script, tmp_path: Path, left: timedelta, milliseconds: int
) -> None:
    (tmp_path / "secret").write_text("secret")
    script.issued, script.answers = [{"access_token": "one", "expires_in": 300}], [accepted()]
    gateway_for(script.url, tmp_path / "secret").send(message(expires_time=datetime.now(UTC) + left))
    (asked,) = script.sent[-1]
    assert milliseconds - 10_000 < asked["expiration"]["relative"] <= milliseconds
    assert link.gateway.send(message(expires_time=datetime.now(UTC))) == Refused("EXPIRED")
    assert link.messages() == []
