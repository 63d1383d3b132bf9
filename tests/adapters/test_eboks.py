"""The e-Boks adapter and the sandbox that serves the same contract, over real sockets."""

import json
import logging
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from krr.v1 import delivery_service_pb2 as pb
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapters.adapter import Done, Refused, TryLater
from adapters.eboks import EBoksAdapter
from adapters.sandbox.control import running
from adapters.sandbox.eboks import make_app

# One for all: each new client reads the list of authorities anew.
http = httpx.Client(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))

PERSON = "11887197158"
WITHOUT_ACCOUNT = "30850649509"
NOBODY_LISTENS = "http://127.0.0.1:1"


class EBoks:
    """A running sandbox with an account for PERSON, and an adapter that talks to it."""

    def __init__(self, url: str, data: Path) -> None:
        self.url = url
        self.token = (data / "token").read_text()
        self.adapter = EBoksAdapter(url, token_file=data / "token", deadline_seconds=5)
        self.seed(receives=False)

    def seed(self, *, receives: bool) -> None:
        account = {"identifier": PERSON, "address": "kari.nordmann#1234", "receives_public_mail": receives}
        http.put(f"{self.url}/sandbox/accounts", json=[account]).raise_for_status()

    def behave(self, behaviour: str, slow_seconds: float = 30.0) -> None:
        order = {"behaviour": behaviour, "slow_seconds": slow_seconds}
        http.put(f"{self.url}/sandbox/behaviour", json=order).raise_for_status()

    def receives(self) -> bool:
        return bool(http.get(f"{self.url}/sandbox/accounts").json()[0]["receives_public_mail"])

    def query(self, body: object, **headers: str) -> httpx.Response:
        return http.post(
            f"{self.url}/v1/public-mailbox/query",
            json=body,
            headers={"Authorization": f"Bearer {self.token}", **headers},
        )

    def write(self, receives: object, version: int, key: str) -> httpx.Response:
        return http.put(
            f"{self.url}/v1/public-mailbox",
            json={"identifier": PERSON, "receivesPublicMail": receives},
            headers={
                "Authorization": f"Bearer {self.token}",
                "If-Match": f'"{version}"',
                "Idempotency-Key": key,
            },
        )

    def version(self) -> int:
        return int(self.query({"identifier": PERSON}).json()["version"])


def delivery(receives: bool, identifier: str = PERSON) -> pb.Delivery:
    return pb.Delivery(
        delivery_id=7, identifier=identifier, receives_public_mail=receives, change_number=1001
    )


@pytest.fixture
def eboks(tmp_path: Path) -> Iterator[EBoks]:
    with running(make_app(tmp_path / "eboks", "127.0.0.1:1")) as url:
        sandbox = EBoks(url, tmp_path / "eboks")
        yield sandbox
        sandbox.adapter.close()


# --- conformance: what every mailbox operator's adapter must bear


def test_delivering_twice_changes_the_account_once(eboks: EBoks) -> None:
    before = eboks.version()
    assert eboks.adapter.deliver(delivery(True)) == Done()
    assert eboks.adapter.deliver(delivery(True)) == Done()
    assert eboks.receives()
    assert eboks.version() == before + 1
    assert eboks.adapter.deliver(delivery(False)) == Done()
    assert not eboks.receives()


def test_an_operator_that_is_down_is_tried_later(eboks: EBoks) -> None:
    eboks.behave("down")
    assert isinstance(eboks.adapter.deliver(delivery(True)), TryLater)
    eboks.behave("normal")
    assert eboks.adapter.deliver(delivery(True)) == Done()


def test_nobody_listening_is_tried_later(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("token")
    adapter = EBoksAdapter(NOBODY_LISTENS, token_file=tmp_path / "token", deadline_seconds=5)
    assert adapter.deliver(delivery(True)) == TryLater("UNREACHABLE")
    adapter.close()


def test_a_slow_operator_is_tried_later_within_the_deadline(eboks: EBoks, tmp_path: Path) -> None:
    adapter = EBoksAdapter(eboks.url, token_file=tmp_path / "eboks" / "token", deadline_seconds=0.5)
    eboks.behave("slow", 1.0)
    began = time.monotonic()
    assert adapter.deliver(delivery(True)) == TryLater("TIMEOUT")
    assert time.monotonic() - began < 0.9
    adapter.close()


def test_a_refusal_is_final(eboks: EBoks) -> None:
    eboks.behave("refuse")
    assert eboks.adapter.deliver(delivery(True)) == Refused("FORBIDDEN")


def test_a_lost_answer_is_found_out_by_the_next_attempt(eboks: EBoks) -> None:
    eboks.behave("lose_answer")
    assert eboks.adapter.deliver(delivery(True)) == TryLater("ANSWER_LOST")
    eboks.behave("normal")
    assert eboks.adapter.deliver(delivery(True)) == Done()
    assert eboks.receives()


def test_switching_on_without_an_account_is_refused_for_the_citizen_to_see(eboks: EBoks) -> None:
    assert eboks.adapter.deliver(delivery(True, WITHOUT_ACCOUNT)) == Refused("NO_ACCOUNT")


def test_switching_off_without_an_account_is_done_already(eboks: EBoks) -> None:
    assert eboks.adapter.deliver(delivery(False, WITHOUT_ACCOUNT)) == Done()


def test_no_log_or_span_holds_the_identity_number(
    eboks: EBoks,
    spans: InMemorySpanExporter,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    eboks.adapter.deliver(delivery(True))
    eboks.behave("refuse")
    eboks.adapter.deliver(delivery(False))
    eboks.behave("lose_answer")
    eboks.adapter.deliver(delivery(False))
    ended = spans.get_finished_spans()
    assert [span.name for span in ended[:3]] == ["eboks read", "eboks write", "eboks read"]
    assert dict(ended[1].attributes or {}) == {
        "http.request.method": "PUT",
        "http.response.status_code": 200,
    }
    written = caplog.text + "".join(capfd.readouterr()) + "".join(span.to_json() for span in ended)
    assert PERSON not in written
    assert eboks.token not in written


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
        (401, b'{"code": "UNAUTHORIZED"}', TryLater("HTTP_401")),
        (302, b"", TryLater("HTTP_302")),
        (404, b"<html>not the operator's</html>", TryLater("HTTP_404")),
        (403, b'{"code": "11887197158"}', TryLater("HTTP_403")),
        (409, b'{"code": "ACCOUNT_CLOSING"}', Refused("ACCOUNT_CLOSING")),
        (200, b"", TryLater("MALFORMED_ANSWER")),
        (200, b"[" * 5000, TryLater("MALFORMED_ANSWER")),
        (200, b'{"accountExists": "yes"}', TryLater("MALFORMED_ANSWER")),
        (200, b" " * 70_000, TryLater("ANSWER_TOO_LARGE")),
    ],
)
def test_a_bad_answer_is_no_success(
    liar: Liar, tmp_path: Path, status: int, body: bytes, outcome: TryLater | Refused
) -> None:
    (tmp_path / "token").write_text("token")
    liar.says = (status, body)
    adapter = EBoksAdapter(liar.url, token_file=tmp_path / "token", deadline_seconds=5)
    assert adapter.deliver(delivery(True)) == outcome
    adapter.close()


def test_a_write_that_changed_nothing_is_not_done(liar: Liar, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("token")
    state = {"accountExists": True, "receivesPublicMail": False, "address": "a#1234567", "version": 1}
    liar.says = (200, json.dumps(state).encode())
    adapter = EBoksAdapter(liar.url, token_file=tmp_path / "token", deadline_seconds=5)
    assert adapter.deliver(delivery(True)) == TryLater("NOT_AS_WRITTEN")
    adapter.close()


def test_without_a_token_file_nothing_is_sent(eboks: EBoks, tmp_path: Path) -> None:
    adapter = EBoksAdapter(eboks.url, token_file=tmp_path / "none", deadline_seconds=5)
    assert adapter.deliver(delivery(True)) == TryLater("NO_TOKEN")
    adapter.close()


# --- the sandbox keeps the contract


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EBoks]:
    data = tmp_path_factory.mktemp("eboks")
    with running(make_app(data, "127.0.0.1:1")) as url:
        sandbox = EBoks(url, data)
        yield sandbox
        sandbox.adapter.close()


def test_a_write_at_an_older_version_is_refused(eboks: EBoks) -> None:
    version = eboks.version()
    eboks.seed(receives=True)
    answer = eboks.write(False, version, str(uuid.uuid4()))
    assert (answer.status_code, answer.json()["code"]) == (412, "VERSION_CONFLICT")
    assert eboks.receives()


def test_the_same_key_gets_the_first_answer_and_changes_nothing(eboks: EBoks) -> None:
    version, key = eboks.version(), str(uuid.uuid4())
    first = eboks.write(True, version, key)
    eboks.seed(receives=False)
    again = eboks.write(True, version, key)
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert not eboks.receives()
    other = eboks.write(False, version, key)
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")


def test_a_wish_that_others_undid_is_written_again(eboks: EBoks) -> None:
    assert eboks.adapter.deliver(delivery(True)) == Done()
    eboks.seed(receives=False)
    assert eboks.adapter.deliver(delivery(True)) == Done()
    assert eboks.receives()


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
    kept: EBoks, call: Callable[[EBoks], httpx.Response]
) -> None:
    answer = call(kept)
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST")
    assert answer.headers["content-type"] == "application/problem+json"


def test_another_token_is_refused(kept: EBoks) -> None:
    answer = kept.query({"identifier": PERSON}, Authorization="Bearer other")
    assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHORIZED")


def test_accounts_versions_and_token_outlive_the_sandbox(tmp_path: Path) -> None:
    states: list[Any] = []
    for _ in range(2):
        with running(make_app(tmp_path, "127.0.0.1:1")) as url:
            if not states:
                EBoks(url, tmp_path).adapter.close()
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
