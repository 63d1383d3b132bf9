"""The Digipost adapter against its sandbox: it converges, and believes only what is signed."""

import logging
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path
from typing import Self

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from krr.v1 import delivery_service_pb2 as pb
from krr_client import connect
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.requests import Request
from starlette.responses import Response
from structlog.testing import capture_logs

from adapters.adapter import AccountState, Done, Misconfigured, Refused, TryLater
from adapters.digipost import DigipostAdapter, DigipostSettings, signing
from adapters.digipost.client import DigipostClient
from adapters.digipost.entry_point import EntryPoint, read_entry_point
from adapters.digipost.xml_body import compose, safe_code
from adapters.exchange import NotDone
from adapters.runner import Runner
from adapters.sandbox import keys
from adapters.sandbox.digipost import BROKER_ID, signed_answer
from adapters.work import mailbox_work
from tests.adapters.digipost_sandbox import (
    Digipost,
    Liar,
    digipost_adapter,
    digipost_running,
    liar_running,
)
from tests.adapters.fake_register import FakeRegister, eventually, in_thread, serving
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


def test_an_account_that_get_tags_does_not_know_is_not_read_as_absent(liar: Liar) -> None:
    error = _error("UNKNOWN_USER", "CLIENT_DATA")
    liar.answer = lambda request: liar.signed(request, error, 400)
    assert liar.adapter.read(PERSON) == AccountState(False, account_exists=None)


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


def test_links_are_found_by_the_last_part_of_their_relation_in_any_case(digipost_keys: Path) -> None:
    certificate = (digipost_keys / "server-certificate.pem").read_text()
    links = (
        ("https://digipost.invalid/relations/GET_TAGS", "https://a.invalid/1"),
        ("https://digipost.invalid/relations/add_Tag/", "https://a.invalid/2"),
        ("remove_tag", "http://a.invalid/in-the-open"),
        ("https://digipost.invalid/relations/a_relation_to_come", "https://a.invalid/3"),
    )
    written = "".join(f'<link rel="{relation}" uri="{address}"/>' for relation, address in links)
    body = (
        '<entrypoint xmlns="http://api.digipost.no/schema/v8">'
        f"<certificate>{certificate}</certificate>{written}<an-element-to-come/></entrypoint>"
    )
    assert read_entry_point(body.encode(), "https://a.invalid/", 0).links == {
        "get_tags": "https://a.invalid/1",
        "add_tag": "https://a.invalid/2",
        "a_relation_to_come": "https://a.invalid/3",
    }


def test_an_entry_point_that_swells_or_is_too_large_is_not_believed(liar: Liar) -> None:
    liar.answer = liar.signed_tags
    for body, error_code in (
        (b'<!DOCTYPE entrypoint [<!ENTITY e "e">]>' + liar.entry_point, "ENTRY_POINT_MALFORMED"),
        (liar.entry_point + b" " * 300_000, "ANSWER_TOO_LARGE"),
        (compose("entrypoint", ("certificate", "none")), "ENTRY_POINT_MALFORMED"),
    ):
        adapter = DigipostAdapter(liar.settings)
        with liar.entry_point_being(body):
            assert adapter.deliver(wish(True)) == TryLater(error_code)
    assert DigipostAdapter(liar.settings).deliver(wish(False)) == Done()


def test_an_entry_point_without_the_relation_is_tried_later(liar: Liar) -> None:
    without = liar.entry_point.replace(b"GET_TAGS", b"GET_NOTHING")
    with liar.entry_point_being(without):
        assert DigipostAdapter(liar.settings).deliver(wish(True)) == TryLater("RELATION_MISSING")


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
        (
            409,
            "NOT_APPROVED_FOR_REST_API_USAGE",
            "CONFIGURATION",
            Misconfigured("NOT_APPROVED_FOR_REST_API_USAGE"),
        ),
        (403, "BROKER_NOT_AUTHORIZED", "CLIENT_TECHNICAL", Misconfigured("BROKER_NOT_AUTHORIZED")),
        (409, "ACCOUNT_DEACTIVATED", "CLIENT_DATA", Refused("ACCOUNT_DEACTIVATED")),
        (400, "SCHEMA_VALIDATION_ERROR", "CLIENT_TECHNICAL", Refused("SCHEMA_VALIDATION_ERROR")),
        (
            400,
            "DATE_HEADER_OUTSIDE_ACCEPTED_INTERVAL",
            "CLIENT_TECHNICAL",
            TryLater("CLOCK_SKEW"),
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
    # What is refused then says nothing of what stands there.
    read = TryLater(outcome.error_code) if isinstance(outcome, Refused) else outcome
    assert liar.adapter.read(PERSON) == read


@pytest.mark.parametrize("code", ["", "1ST", "lower", f"U_{PERSON}", "U_123_456", "A" * 65])
def test_codes_that_could_hold_something_personal_are_not_passed_on(code: str) -> None:
    assert safe_code(code) == "UNKNOWN_ERROR_CODE"


# --- clocks


@pytest.mark.parametrize("minutes", [6, -6])
def test_clocks_that_differ_are_named_and_the_log_says_by_how_much(liar: Liar, minutes: int) -> None:
    date = datetime.now(UTC) - timedelta(minutes=minutes)
    liar.answer = lambda request: signed_answer(200, request.url.path, TAGGED, liar.key, date)
    with capture_logs() as logs:
        assert liar.switch() == TryLater("CLOCK_SKEW")
    [log] = logs
    assert set(log) == {"event", "log_level", "seconds_ahead"}
    assert log["event"] == "clock skew"
    assert abs(log["seconds_ahead"] - minutes * 60) <= 2


class SixMinutesAhead(datetime):
    """This machine's clock, when it is wrong."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + timedelta(minutes=6)


@pytest.mark.parametrize("knows_the_entry_point", [True, False])
def test_a_request_that_digipost_refuses_for_its_date_is_named_so(
    digipost: Digipost, monkeypatch: pytest.MonkeyPatch, knows_the_entry_point: bool
) -> None:
    adapter = digipost.adapter_for(digipost.url)
    if knows_the_entry_point:
        assert adapter.deliver(wish(False)) == Done()
    monkeypatch.setattr("adapters.digipost.client.datetime", SixMinutesAhead)
    with capture_logs() as logs:
        assert adapter.deliver(wish(True)) == TryLater("CLOCK_SKEW")
    assert [(log["event"], abs(log["seconds_ahead"] - 360) <= 2) for log in logs] == [("clock skew", True)]


# --- a key or a permission that is not as it should be


def test_a_key_that_digipost_does_not_know_is_the_adapters_fault_not_the_persons(
    digipost: Digipost, tmp_path: Path
) -> None:
    shutil.copy(digipost.data / "server-key.pem", tmp_path / "sender-key.pem")
    outcome = digipost_adapter(digipost.url, tmp_path).deliver(wish(True))
    assert outcome == Misconfigured("INVALID_SIGNATURE")


def test_the_identity_number_that_a_403_echoes_is_recorded_nowhere(
    liar: Liar, spans: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    register = FakeRegister()
    register.deliveries = [pb.Delivery(delivery_id=1, lease_token="lease", identifier=PERSON)]
    echoed: list[bytes] = []

    def refuse(request: Request) -> Response:
        # As the real one: what it would have signed, with the query that get-tags must carry.
        query = request.url.query
        echoed.append(
            compose(
                "error",
                ("error-code", f"INVALID_SIGNATURE_{query}"),
                ("error-message", f"===START===\nGET\n/get_tags\n{query}\n===SLUTT==="),
                ("error-type", "CLIENT_TECHNICAL"),
            )
        )
        return liar.signed(request, echoed[-1], 403)

    liar.answer = refuse
    with pytest.raises(NotDone) as raised:
        DigipostClient(liar.settings).call(
            "get_tags", time.monotonic() + 5, query={"personal-identification-number": PERSON}
        )
    with (
        capture_logs() as logs,
        serving(register) as port,
        connect(f"127.0.0.1:{port}", "Development adapter/test") as channel,
        in_thread(Runner(mailbox_work("digipost", liar.adapter, channel, 30)).run),
    ):
        eventually(lambda: register.finished)
    assert all(PERSON.encode() in each for each in echoed)
    assert len(echoed) == 2
    ended = spans.get_finished_spans()
    assert {"digipost get_tags", "deliver digipost"} <= {span.name for span in ended}
    written = [repr(logs), caplog.text, *(span.to_json() for span in ended), str(register.finished)]
    assert "UNKNOWN_ERROR_CODE" in "".join(written)
    assert "".join(traceback.format_exception(raised.value)).count("UNKNOWN_ERROR_CODE")
    written += traceback.format_exception(raised.value)
    assert PERSON not in "".join(written)


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
        (_old, "CLOCK_SKEW"),
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
