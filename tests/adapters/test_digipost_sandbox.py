"""The Digipost sandbox: signatures as Digipost's own client makes them, and nothing slips in."""

import re
import shutil
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from krr.v1 import mailbox_operator_service_pb2 as pb
from krr.v1.mailbox_operator_service_pb2_grpc import (
    MailboxOperatorServiceServicer,
    add_MailboxOperatorServiceServicer_to_server,
)

from adapters.adapter import Done
from adapters.digipost import signing
from adapters.digipost.xml_body import compose
from adapters.sandbox.control import running
from adapters.sandbox.digipost import make_app
from tests.adapters.digipost_sandbox import Digipost, digipost_running
from tests.adapters.sandbox import PERSON, WITHOUT_ACCOUNT, http

OPENS_ONE = "17894199350"

VECTOR_KEY = """\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA0unU2AMiIe1yivPy9dub
odptLSOfWvBpknZmiPYfzn7924EikMjeEoim7pmAJjPQF//oE5O85ThlVtkm9L+U
TfmDOvILqaMJbta4ySj812zipTtxO2zyj/wGQ9tU5E7R08aCGFXzk69mbiGWBsLU
OrAbxKE9ujv315n2+NXiYgl7UwdcIYXpBAPlVkkkEXG9cKtF2LluOU7S/PyMh2Ru
8TptJE/j7uua7RiFRaEDpdCcj/BCrsICt3cRcriT+GuHAYbR1xQaJlW7FZcZXt1C
GLKHLeMcMrWrCyiV4x6AKDvWjtpVOjWW0klH33wCdS4jDhXHGLM9k7Qz4yY66oZ6
3QIDAQAB
-----END PUBLIC KEY-----
"""
VECTOR_SIGNATURE = (
    "HEZfhL+mu0Pb9Owvfs7pHLUXxZPthONK53nWTwXPFtFVjslr4AIxLqUSbAO7PerzBcRryYa84SellVabx8t16Ixg52"
    "afLQb02qyeDx1qF23YAIvvv01NmEJkVUUTV/oN7MgDAb4NGeujzVoUzXKTV+b5YC4W2c4M/RWSGYF1HxEEo+82SDyT"
    "lwGa3XxhcVem2Kg0LOgZvKaJnFWk0fsVDI7J9xWdOY0NWbtlm/xu77w2IlR+91lbr2G5A75lyzboXVEYvOj3UGzKwF"
    "TqGDpR7var+/PzWh00lQ/dKtILKzDGz3E80CxCOtlU/6kczk9MtYVQvLCy7QR0GMUI6ypTzg=="
)


# --- signing


def test_the_string_to_sign_and_signatures_are_those_of_digiposts_own_client() -> None:
    # Unit test of digipost/digipost-api-client-dotnet at 4425582, Apache-2.0.
    headers = {
        "Date": "Mon, 07 Jul 2014 12:00:02 GMT",
        "X-Digipost-UserId": "1337",
        "X-Content-SHA256": "TheHashOfContentForHeader",
    }
    string = signing.request_string("post", "/SomeEndpoint", "", headers)
    assert string == (
        "POST\n/someendpoint\ndate: Mon, 07 Jul 2014 12:00:02 GMT\n"
        "x-content-sha256: TheHashOfContentForHeader\nx-digipost-userid: 1337\n\n"
    )
    key = load_pem_public_key(VECTOR_KEY.encode())
    assert isinstance(key, RSAPublicKey)
    assert signing.is_signed_by(key, string, VECTOR_SIGNATURE)
    assert not signing.is_signed_by(key, string + "\n", VECTOR_SIGNATURE)
    assert not signing.is_signed_by(key, string, "not base64: æ")


def test_the_string_to_sign_has_the_query_and_an_answers_has_the_status() -> None:
    headers = {"X-Digipost-UserId": "1", "DATE": "d", "Accept": "x"}
    assert signing.request_string("GET", "/T", "A=B%2F", headers) == (
        "GET\n/t\ndate: d\nx-digipost-userid: 1\na=b%2f\n"
    )
    assert signing.answer_string(200, "/T", {"date": "d", "x-content-sha256": "h"}) == (
        "200\n/t\ndate: d\nx-content-sha256: h\n"
    )


# --- what the sandbox lets in


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({signing.SIGNATURE: "AAAA"}, 403, "INVALID_SIGNATURE"),
        ({signing.SIGNATURE: None}, 403, "MISSING_SIGNATURE"),
        ({signing.USER_ID: "1001"}, 403, "UNKNOWN_USER_ID"),
        ({signing.DATE: None}, 400, "MISSING_DATE_HEADER"),
        ({signing.DATE: "Mon, 07 Jul 2014 12:00:02 GMT"}, 400, "DATE_HEADER_OUTSIDE_ACCEPTED_INTERVAL"),
        ({signing.CONTENT_SHA256: "AAAA"}, 400, "INVALID_SHA256"),
        ({signing.CONTENT_SHA256: None}, 400, "MISSING_SHA256"),
        ({"Content-Type": "application/xml"}, 400, "ILLEGAL_CONTENT_TYPE"),
    ],
)
def test_the_sandbox_refuses_requests_that_are_not_as_they_should_be(
    digipost: Digipost, change: dict[str, str | None], status: int, code: str
) -> None:
    tag = compose("tag", ("public-mailbox-tag/personal-identification-number", PERSON))
    answer = digipost.post("add_tag", tag, change)
    assert (answer.status_code, code in answer.text) == (status, True)
    assert ("===START===\nPOST\n/" in answer.text) == (code == "INVALID_SIGNATURE")
    assert not digipost.receives_public_mail()


@pytest.mark.parametrize("body", [b"<tag", compose("tag"), compose("tags"), compose("tag", ("other", "x"))])
def test_the_sandbox_holds_bodies_to_the_schema(digipost: Digipost, body: bytes) -> None:
    answer = digipost.post("add_tag", body)
    assert (answer.status_code, "SCHEMA_VALIDATION_ERROR" in answer.text) == (400, True)


def test_the_sandbox_identifies_account_holders(digipost: Digipost) -> None:
    known, unknown = (
        digipost.post(
            "identify_recipient", compose("identification", ("personal-identification-number", identifier))
        )
        for identifier in (PERSON, WITHOUT_ACCOUNT)
    )
    assert "<result>DIGIPOST</result><digipost-address>kari.nordmann#9YDT<" in known.text
    assert "<result>UNIDENTIFIED</result><unidentified-reason>NOT_FOUND<" in unknown.text


def test_the_sandbox_keeps_its_accounts_and_keys_over_a_restart(digipost_keys: Path, tmp_path: Path) -> None:
    data = shutil.copytree(digipost_keys, tmp_path / "digipost")
    with digipost_running(data) as before:
        before.begin_anew()
        before.switch(True)
    with digipost_running(data) as after:
        assert after.receives_public_mail()
        assert after.switch(True) == Done()


def test_accounts_survive_a_kill_and_sigterm_ends_it_at_once(digipost_keys: Path, tmp_path: Path) -> None:
    data = shutil.copytree(digipost_keys, tmp_path / "digipost")
    account = {"identifier": PERSON, "address": "kari.nordmann#9YDT", "receives_public_mail": True}
    with _process(data) as (process, url):
        http.put(f"{url}/sandbox/accounts", json=[account]).raise_for_status()
        process.kill()
        process.wait()
    with _process(data) as (process, url):
        assert http.get(f"{url}/sandbox/accounts").json() == [account]
        began = time.monotonic()
        process.terminate()
        process.wait()
        assert time.monotonic() - began < 2


def test_keys_are_for_their_owner_only(digipost_keys: Path) -> None:
    modes = {stat.S_IMODE(file.stat().st_mode) for file in digipost_keys.glob("*.pem")}
    assert (modes, len(list(digipost_keys.glob("*.pem")))) == ({0o600}, 3)


@pytest.mark.parametrize("choose", [True, False])
def test_an_opened_account_is_reported_to_the_register(
    digipost_keys: Path, tmp_path: Path, choose: bool
) -> None:
    data = shutil.copytree(digipost_keys, tmp_path / "digipost")
    register = grpc.server(ThreadPoolExecutor(1))
    heard = _Register()  # type: ignore[abstract]  # the other calls are not made
    add_MailboxOperatorServiceServicer_to_server(heard, register)
    port = register.add_insecure_port("127.0.0.1:0")
    register.start()
    try:
        with running(make_app(data, f"127.0.0.1:{port}")) as url:
            opening = {"identifier": OPENS_ONE, "choose": choose}
            answers = [http.post(f"{url}/sandbox/accounts", json=opening).json() for _ in range(2)]
    finally:
        register.stop(None).wait()
    address = answers[0]["address"]
    assert re.fullmatch("synthetic.person#[A-Z0-9]{4}", address)
    assert answers == [{"address": address, "result": "RESERVED", "change_number": 7}] * 2
    kind = pb.CreateAndChooseMailboxRequest if choose else pb.CreateMailboxRequest
    assert [type(request) for request in heard.requests] == [kind, kind]
    assert {(r.identifier, r.address) for r in heard.requests} == {(OPENS_ONE, address)}
    assert len({uuid.UUID(request.event_id) for request in heard.requests}) == 2
    assert heard.credentials == {"Development operator/984661185"}


class _Register(MailboxOperatorServiceServicer):
    def __init__(self) -> None:
        self.requests: list[pb.CreateMailboxRequest | pb.CreateAndChooseMailboxRequest] = []
        self.credentials: set[str] = set()

    def CreateMailbox(
        self, request: pb.CreateMailboxRequest, context: grpc.ServicerContext
    ) -> pb.CreateMailboxResponse:
        return pb.CreateMailboxResponse(answer=self._answer(request, context))

    def CreateAndChooseMailbox(
        self, request: pb.CreateAndChooseMailboxRequest, context: grpc.ServicerContext
    ) -> pb.CreateAndChooseMailboxResponse:
        return pb.CreateAndChooseMailboxResponse(answer=self._answer(request, context))

    def _answer(
        self,
        request: pb.CreateMailboxRequest | pb.CreateAndChooseMailboxRequest,
        context: grpc.ServicerContext,
    ) -> pb.MailboxAnswer:
        self.requests.append(request)
        self.credentials.add(str(dict(context.invocation_metadata())["authorization"]))
        return pb.MailboxAnswer(result=pb.MAILBOX_RESULT_RESERVED, change_number=7)


def test_an_opened_account_stands_though_the_register_is_away(digipost: Digipost) -> None:
    opening = {"identifier": OPENS_ONE, "choose": True}
    answer = http.post(f"{digipost.url}/sandbox/accounts", json=opening)
    assert (answer.status_code, answer.json()) == (502, {"error": "UNAVAILABLE"})
    accounts = http.get(f"{digipost.url}/sandbox/accounts").json()
    assert len([a for a in accounts if a["identifier"] == OPENS_ONE]) == 1


@contextmanager
def _process(data: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "adapters.sandbox", "digipost", "--data", str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            said, _, url = process.stdout.readline().strip().rpartition(" ")
            assert said == "listening on"
            yield process, url
        finally:
            process.kill()
