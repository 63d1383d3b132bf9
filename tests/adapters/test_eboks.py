"""The e-Boks adapter and the sandbox that serves the same contract, over real sockets."""

import json
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapters.adapter import Done, Misconfigured, Refused, TryLater
from adapters.sandbox.control import running
from adapters.sandbox.eboks import make_app
from tests.adapters.eboks_sandbox import EBoks, eboks_adapter
from tests.adapters.sandbox import PERSON, http, wish


def test_delivering_twice_changes_the_account_once(eboks: EBoks) -> None:
    before = eboks.version()
    assert eboks.switch(True) == Done()
    assert eboks.switch(True) == Done()
    assert eboks.version() == before + 1


def test_a_refusal_carries_the_contracts_code(eboks: EBoks) -> None:
    eboks.behave("refuse")
    assert eboks.switch(True) == Refused("ACCOUNT_CLOSING")


# --- an operator that answers badly


class Liar:
    """An operator that answers everything with what it was told to."""

    def __init__(self) -> None:
        self.says = (200, b"")
        self.url = ""

    async def answer(self, request: Request) -> Response:
        await request.body()
        status, body = self.says
        return Response(body, status, media_type="application/json")


@pytest.fixture(scope="module")
def liar() -> Iterator[Liar]:
    operator = Liar()
    app = Starlette(routes=[Route("/{path:path}", operator.answer, methods=["POST", "PUT"])])
    with running(app) as operator.url:
        yield operator


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (500, b"", TryLater("HTTP_500")),
        (503, b'{"code": "UNAVAILABLE"}', TryLater("HTTP_503")),
        (429, b"", TryLater("HTTP_429")),
        (401, b'{"code": "UNAUTHORIZED"}', Misconfigured("UNAUTHORIZED")),
        (403, b'{"code": "FORBIDDEN"}', Misconfigured("FORBIDDEN")),
        (401, b"<html>a proxy's</html>", TryLater("HTTP_401")),
        (302, b"", TryLater("HTTP_302")),
        (404, b"<html>not the operator's</html>", TryLater("HTTP_404")),
        (403, b'{"code": "11887197158"}', TryLater("HTTP_403")),
        (409, b'{"code": "ACCOUNT_CLOSING"}', Refused("ACCOUNT_CLOSING")),
        (200, b"", TryLater("ANSWER_MALFORMED")),
        (200, b"[" * 5000, TryLater("ANSWER_MALFORMED")),
        (200, b'{"accountExists": "yes"}', TryLater("ANSWER_MALFORMED")),
        (200, b" " * 70_000, TryLater("ANSWER_TOO_LARGE")),
    ],
)
def test_a_bad_answer_is_no_success(
    liar: Liar, tmp_path: Path, status: int, body: bytes, outcome: TryLater | Refused
) -> None:
    (tmp_path / "token").write_text("token")
    liar.says = (status, body)
    adapter = eboks_adapter(liar.url, tmp_path / "token")
    assert adapter.deliver(wish(True)) == outcome


def test_a_write_that_changed_nothing_is_not_done(liar: Liar, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("token")
    state = {"accountExists": True, "receivesPublicMail": False, "address": "a#1234567", "version": 1}
    liar.says = (200, json.dumps(state).encode())
    adapter = eboks_adapter(liar.url, tmp_path / "token")
    assert adapter.deliver(wish(True)) == TryLater("READ_BACK_DIFFERS")


def test_without_a_token_file_nothing_is_sent(eboks: EBoks, tmp_path: Path) -> None:
    adapter = eboks_adapter(eboks.url, tmp_path / "none")
    assert adapter.deliver(wish(True)) == Misconfigured("NO_TOKEN")


# --- the sandbox keeps the contract


def test_a_write_at_an_older_version_is_refused(eboks: EBoks) -> None:
    version = eboks.version()
    eboks.seed(receives=True)
    answer = eboks.write(False, version, str(uuid.uuid4()))
    assert (answer.status_code, answer.json()["code"]) == (412, "VERSION_CONFLICT")
    assert eboks.receives_public_mail()


def test_the_same_key_gets_the_first_answer_and_changes_nothing(eboks: EBoks) -> None:
    version, key = eboks.version(), str(uuid.uuid4())
    first = eboks.write(True, version, key)
    eboks.seed(receives=False)
    again = eboks.write(True, version, key)
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert not eboks.receives_public_mail()
    other = eboks.write(False, version, key)
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")


def test_a_wish_that_others_undid_is_written_again(eboks: EBoks) -> None:
    assert eboks.switch(True) == Done()
    eboks.seed(receives=False)
    assert eboks.switch(True) == Done()
    assert eboks.receives_public_mail()


@pytest.mark.parametrize(
    "call",
    [
        lambda eboks: eboks.query({"identifier": "1"}),
        lambda eboks: eboks.query({"identifier": PERSON, "more": 1}),
        lambda eboks: eboks.query([]),
        lambda eboks: eboks.write("yes", 1, str(uuid.uuid4())),
        lambda eboks: eboks.write(True, 1, "no uuid"),
        lambda eboks: eboks.write(True, -1, str(uuid.uuid4())),
    ],
)
def test_a_request_that_breaks_the_contract_is_refused(
    eboks: EBoks, call: Callable[[EBoks], httpx.Response]
) -> None:
    answer = call(eboks)
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST")
    assert answer.headers["content-type"] == "application/problem+json"


def test_another_token_is_refused(eboks: EBoks) -> None:
    answer = eboks.query({"identifier": PERSON}, Authorization="Bearer other")
    assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHORIZED")


def test_accounts_versions_and_token_outlive_the_sandbox(tmp_path: Path) -> None:
    states: list[Any] = []
    for _ in range(2):
        with running(make_app(tmp_path, "127.0.0.1:1")) as url:
            if not states:
                EBoks(url, tmp_path).begin_anew()
            token = (tmp_path / "token").read_text()
            states.append(
                http.post(
                    f"{url}/v1/public-mailbox/query",
                    json={"identifier": PERSON},
                    headers={"Authorization": f"Bearer {token}"},
                ).json()
            )
    assert states[0] == states[1]
    assert states[0]["accountExists"]
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
