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

from adapters.adapter import (
    AccountLister,
    AccountPage,
    AccountState,
    Done,
    Misconfigured,
    Refused,
    TryLater,
)
from adapters.eboks import EBoksSettings, adapter_for
from adapters.sandbox.control import running
from adapters.sandbox.eboks import make_app
from tests.adapters.eboks_sandbox import EBoks, eboks_adapter, listing_adapter
from tests.adapters.sandbox import PERSON, WITHOUT_ACCOUNT, http, wish


def test_delivering_twice_changes_the_account_once(eboks: EBoks) -> None:
    before = eboks.version()
    assert eboks.switch(True) == Done()
    assert eboks.switch(True) == Done()
    assert eboks.version() == before + 1


def test_a_refusal_carries_the_contracts_code(eboks: EBoks) -> None:
    eboks.behave("refuse")
    assert eboks.switch(True) == Refused("ACCOUNT_CLOSING")


def test_an_account_is_read_with_its_address(eboks: EBoks) -> None:
    assert eboks.adapter.read(PERSON) == AccountState(False, True, "kari.nordmann#9YDT")
    assert eboks.adapter.read(WITHOUT_ACCOUNT) == AccountState(False, False, None)


def _account(number: int, receives: bool = False) -> dict[str, Any]:
    # Nobody's: no day is the 99th.
    address = "a" * 88 + f"#{number}"
    return {"identifier": str(number), "address": address, "receives_public_mail": receives}


def test_the_list_holds_each_account_once_in_order(eboks: EBoks) -> None:
    seeded = [_account(99_000_000_000 + number, number % 3 == 0) for number in range(1, 904)]
    http.put(f"{eboks.url}/sandbox/accounts", json=list(reversed(seeded))).raise_for_status()
    try:
        lister, after = listing_adapter(eboks.url, eboks.token_file), "98999999999"
        pages: list[AccountPage] = []
        while not (pages and pages[-1].is_last):
            page = lister.list_after(after)
            assert isinstance(page, AccountPage)
            pages.append(page)
            after = page.accounts[-1][0]
    finally:
        gone = [account["identifier"] for account in seeded]
        http.request("DELETE", f"{eboks.url}/sandbox/accounts", json=gone).raise_for_status()
    assert [len(page.accounts) for page in pages] == [400, 400, 103]
    assert [each for page in pages for each in page.accounts] == [
        (account["identifier"], AccountState(account["receives_public_mail"], True, account["address"]))
        for account in seeded
    ]


def test_beyond_the_last_account_the_list_is_at_its_end(eboks: EBoks) -> None:
    lister = listing_adapter(eboks.url, eboks.token_file)
    assert lister.list_after("99999999999") == AccountPage((), is_last=True)
    from_the_first = lister.list_after("")
    assert isinstance(from_the_first, AccountPage)
    assert from_the_first.accounts[0][0] <= PERSON


def test_only_an_operator_that_serves_the_list_is_asked_for_it(eboks: EBoks) -> None:
    for lists in (True, False):
        settings = EBoksSettings(url=eboks.url, token_file=eboks.token_file, lists_accounts=lists)
        assert isinstance(adapter_for(settings), AccountLister) == lists


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
        (404, b'{"code": "NO_ACCOUNT"}', Refused("NO_ACCOUNT")),
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
    # A refusal is about a change: it says nothing of what stands there.
    read = TryLater(outcome.error_code) if isinstance(outcome, Refused) else outcome
    assert adapter.read(PERSON) == read


def test_a_write_that_changed_nothing_is_not_done(liar: Liar, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("token")
    state = {"accountExists": True, "receivesPublicMail": False, "address": "a#1234567", "version": 1}
    liar.says = (200, json.dumps(state).encode())
    adapter = eboks_adapter(liar.url, tmp_path / "token")
    assert adapter.deliver(wish(True)) == TryLater("READ_BACK_DIFFERS")


def _listed(*identifiers: str, last: object = False) -> bytes:
    version_and_address = {"receivesPublicMail": False, "address": "a#1234567", "version": 1}
    return json.dumps(
        {"accounts": [{"identifier": each, **version_and_address} for each in identifiers], "last": last}
    ).encode()


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, _listed("20000000001", "20000000003", "20000000002"), TryLater("ANSWER_MALFORMED")),
        (200, _listed("20000000001", "20000000001"), TryLater("ANSWER_MALFORMED")),
        (200, _listed("20000000000"), TryLater("ANSWER_MALFORMED")),
        (200, _listed("10000000000", "20000000001"), TryLater("ANSWER_MALFORMED")),
        (200, _listed(), TryLater("ANSWER_MALFORMED")),
        (200, _listed("2000000001"), TryLater("ANSWER_MALFORMED")),
        (200, _listed("20000000001", last=None), TryLater("ANSWER_MALFORMED")),
        (200, _listed("20000000001", "20000000002")[:-20], TryLater("ANSWER_MALFORMED")),
        (200, _listed(*(f"{20000000001 + n}" for n in range(401))), TryLater("ANSWER_MALFORMED")),
        (200, b"", TryLater("ANSWER_MALFORMED")),
        (200, b" " * 600_000, TryLater("ANSWER_TOO_LARGE")),
        (404, b"<html>an older contract", TryLater("HTTP_404")),
        (400, b'{"code": "INVALID_REQUEST"}', TryLater("INVALID_REQUEST")),
        (401, b'{"code": "UNAUTHORIZED"}', Misconfigured("UNAUTHORIZED")),
        (200, _listed(last=True), AccountPage((), is_last=True)),
    ],
)
def test_a_list_that_may_not_be_whole_is_none(
    liar: Liar, tmp_path: Path, status: int, body: bytes, outcome: TryLater | AccountPage
) -> None:
    (tmp_path / "token").write_text("token")
    liar.says = (status, body)
    assert listing_adapter(liar.url, tmp_path / "token").list_after("20000000000") == outcome


def test_an_answer_that_contradicts_itself_is_no_read(liar: Liar, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("token")
    state = {"accountExists": False, "receivesPublicMail": True, "address": "", "version": 1}
    liar.says = (200, json.dumps(state).encode())
    assert eboks_adapter(liar.url, tmp_path / "token").read(PERSON) == TryLater("ANSWER_MALFORMED")


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


def test_an_account_that_is_taken_away_is_gone_and_counts_on_when_it_is_back(eboks: EBoks) -> None:
    before = eboks.version()
    answer = http.request("DELETE", f"{eboks.url}/sandbox/accounts", json=[PERSON])
    assert answer.status_code == 204
    assert not eboks.query({"identifier": PERSON}).json()["accountExists"]
    eboks.seed(receives=False)
    assert eboks.version() > before


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
