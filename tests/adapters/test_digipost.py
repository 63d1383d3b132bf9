"""The Digipost adapter against its sandbox: it converges, and believes only what is signed."""

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from starlette.requests import Request
from starlette.responses import Response

from adapters.adapter import Done, Refused, TryLater
from adapters.digipost import DigipostAdapter, DigipostSettings, signing
from adapters.digipost.entry_point import EntryPoint
from adapters.digipost.xml_body import compose, safe_code
from adapters.sandbox import keys
from adapters.sandbox.digipost import BROKER_ID, signed_answer
from tests.adapters.digipost_sandbox import (
    Digipost,
    Liar,
    digipost_adapter,
    digipost_running,
    liar_running,
)
from tests.adapters.sandbox import PERSON, wish

TAGGED = compose("tags", ("tag-type", "PUBLIC_MAILBOX_TAG"))


@pytest.fixture(scope="module")
def liar(digipost_keys: Path) -> Iterator[Liar]:
    with liar_running(digipost_keys) as running:
        yield running


def test_an_account_that_get_tags_does_not_know_is_off_already(liar: Liar) -> None:
    error = _error("UNKNOWN_USER", "CLIENT_DATA")
    liar.answer = lambda request: liar.signed(request, error, 400)
    assert liar.switch(on=False) == Done()
    assert liar.switch(on=True) == Refused("NO_ACCOUNT")


def test_a_tag_that_does_not_stick_is_not_done(liar: Liar) -> None:
    liar.answer = liar.signed_tags
    assert liar.switch() == TryLater("READ_BACK_DIFFERS")


def test_the_entry_point_is_asked_for_again_when_idle_or_old(digipost_keys: Path) -> None:
    key = keys.private_key(digipost_keys / "sender-key.pem").public_key()
    entry_point = EntryPoint(key, {}, fetched_at=0.0, used_at=3500.0)
    assert entry_point.is_fresh(3600.0)
    assert not entry_point.is_fresh(3601.0)
    entry_point.used_at = entry_point.fetched_at
    assert not entry_point.is_fresh(301.0)


def test_the_suppliers_refusal_is_final(digipost: Digipost) -> None:
    digipost.behave("refuse")
    assert digipost.switch(True) == Refused("ACCOUNT_DEACTIVATED")


def test_links_that_moved_are_found_again_in_the_same_attempt(digipost_keys: Path, tmp_path: Path) -> None:
    shutil.copytree(digipost_keys, tmp_path, dirs_exist_ok=True)
    with digipost_running(tmp_path) as before:
        before.begin_anew()
        assert before.switch(True) == Done()
        old_links = before.links()
    with digipost_running(tmp_path, before.url.removeprefix("http://")) as after:
        assert after.links() != old_links
        assert before.switch(False) == Done()
        assert not after.receives_public_mail()


@pytest.mark.parametrize(
    ("status", "code", "error_type", "outcome"),
    [
        (503, "API_UNAVAILABLE", "SERVER", TryLater("HTTP_503")),
        (400, "SERVER_ERROR", "SERVER", TryLater("SERVER_ERROR")),
        (403, "BROKER_NOT_AUTHORIZED", "CONFIGURATION", Refused("BROKER_NOT_AUTHORIZED")),
        (400, "SCHEMA_VALIDATION_ERROR", "CLIENT_TECHNICAL", Refused("SCHEMA_VALIDATION_ERROR")),
        (
            400,
            "DATE_HEADER_OUTSIDE_ACCEPTED_INTERVAL",
            "CLIENT_TECHNICAL",
            TryLater("DATE_HEADER_OUTSIDE_ACCEPTED_INTERVAL"),
        ),
        (400, "A_CODE_TO_COME", "A_TYPE_TO_COME", TryLater("A_CODE_TO_COME")),
        (400, f"User {PERSON}", "CLIENT_DATA", Refused("UNKNOWN_ERROR_CODE")),
    ],
)
def test_an_error_is_final_by_its_type(
    liar: Liar, status: int, code: str, error_type: str, outcome: TryLater | Refused
) -> None:
    body = _error(code, error_type)
    liar.answer = lambda request: liar.signed(request, body, status)
    assert liar.switch() == outcome


@pytest.mark.parametrize("code", ["", "1ST", "lower", f"U_{PERSON}", "U_123_456", "A" * 65])
def test_codes_that_could_hold_something_personal_are_not_passed_on(code: str) -> None:
    assert safe_code(code) == "UNKNOWN_ERROR_CODE"


# --- what the adapter believes


def _wrong_signature(liar: Liar, request: Request) -> Response:
    return signed_answer(200, request.url.path, TAGGED, liar.strangers_key, datetime.now(UTC))


def _no_signature(liar: Liar, request: Request) -> Response:
    return Response(TAGGED, headers={"Date": signing.http_date(datetime.now(UTC))})


def _other_body(liar: Liar, request: Request) -> Response:
    headers = liar.signed(request, compose("tags")).headers
    kept = {name: headers[name] for name in ("date", "x-content-sha256", "x-digipost-signature")}
    return Response(TAGGED, headers=kept)


def _other_status(liar: Liar, request: Request) -> Response:
    answer = liar.signed(request, TAGGED, 202)
    answer.status_code = 200
    return answer


def _old(liar: Liar, request: Request) -> Response:
    moment = datetime.now(UTC) - timedelta(minutes=6)
    return signed_answer(200, request.url.path, TAGGED, liar.key, moment)


def _unsigned_refusal(liar: Liar, request: Request) -> Response:
    return Response(_error("UNKNOWN_USER", "CLIENT_DATA"), 400)


def _bomb(liar: Liar, request: Request) -> Response:
    entities = '<!ENTITY a0 "PUBLIC_MAILBOX_TAG">' + "".join(
        f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10)
    )
    tags = '<tags xmlns="http://api.digipost.no/schema/v8"><tag-type>&a9;</tag-type></tags>'
    return liar.signed(request, f"<!DOCTYPE tags [{entities}]>{tags}".encode())


def _file_of_this_machine(liar: Liar, request: Request) -> Response:
    entity = '<!DOCTYPE tags [<!ENTITY e SYSTEM "file:///etc/hostname">]>'
    tags = '<tags xmlns="http://api.digipost.no/schema/v8"><tag-type>&e;</tag-type></tags>'
    return liar.signed(request, (entity + tags).encode())


def _oversize(liar: Liar, request: Request) -> Response:
    return liar.signed(request, TAGGED + b" " * 300_000)


@pytest.mark.parametrize(
    ("answer", "error_code"),
    [
        (_wrong_signature, "ANSWER_SIGNATURE"),
        (_no_signature, "ANSWER_HASH"),
        (_other_body, "ANSWER_HASH"),
        (_other_status, "ANSWER_SIGNATURE"),
        (_old, "ANSWER_DATE"),
        (_unsigned_refusal, "ANSWER_DATE"),
        (_bomb, "ANSWER_MALFORMED"),
        (_file_of_this_machine, "ANSWER_MALFORMED"),
        (_oversize, "ANSWER_TOO_LARGE"),
    ],
)
def test_an_answer_that_is_not_as_it_should_be_is_not_believed(
    liar: Liar, answer: Callable[[Liar, Request], Response], error_code: str
) -> None:
    liar.answer = partial(answer, liar)
    assert liar.switch() == TryLater(error_code)


def test_tags_that_are_not_known_are_passed_over(liar: Liar) -> None:
    tags = compose("tags", ("tag-type", "A_TAG_TO_COME"), ("tag-type", "PUBLIC_MAILBOX_TAG"))
    liar.answer = lambda request: liar.signed(request, tags)
    assert liar.switch() == Done()


# --- settings


def test_the_adapter_is_made_from_the_environment(
    digipost: Digipost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRR_DIGIPOST_URL", digipost.url)
    monkeypatch.setenv("KRR_DIGIPOST_BROKER_ID", BROKER_ID)
    monkeypatch.setenv("KRR_DIGIPOST_KEY_FILE", os.fspath(digipost.data / "sender-key.pem"))
    assert DigipostAdapter(DigipostSettings()).deliver(wish(True)) == Done()


def test_a_key_that_is_not_rsa_is_refused(tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    (tmp_path / "sender-key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    with pytest.raises(ValueError, match="not an RSA key"):
        digipost_adapter("https://digipost.example", tmp_path)


def _error(code: str, error_type: str) -> bytes:
    return compose("error", ("error-code", code), ("error-message", PERSON), ("error-type", error_type))
