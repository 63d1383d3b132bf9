"""The Digipost adapter against its sandbox: it converges, and believes only what is signed."""

import contextlib
import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from krr.v1 import delivery_service_pb2 as pb
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.requests import Request
from starlette.responses import Response

from adapters.adapter import Done, Refused, TryLater
from adapters.digipost import DigipostAdapter, adapter_from_settings, client, signing
from adapters.digipost.entry_point import EntryPoint
from adapters.digipost.xml_body import compose, safe_code
from adapters.sandbox import keys
from adapters.sandbox.digipost import BROKER_ID, signed_answer
from tests.adapters.digipost_sandbox import (
    PERSON,
    WITHOUT_ACCOUNT,
    Digipost,
    Liar,
    adapter_for,
    digipost_running,
    liar_running,
    make_data,
    signed,
    signed_tags,
)

TAGGED = compose("tags", ("tag-type", "PUBLIC_MAILBOX_TAG"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("digipost"))


@pytest.fixture(scope="module")
def sandbox(data: Path) -> Iterator[Digipost]:
    with digipost_running(data) as running:
        yield running


@pytest.fixture
def digipost(sandbox: Digipost) -> Digipost:
    sandbox.begin_anew()
    return sandbox


@pytest.fixture(scope="module")
def liar(data: Path) -> Iterator[Liar]:
    with liar_running(data) as running:
        yield running


# --- converging


def test_delivering_twice_leaves_public_mail_on(digipost: Digipost) -> None:
    assert digipost.switch(True) == Done()
    assert digipost.switch(True) == Done()
    assert digipost.receives_public_mail()


def test_switching_off_ends_public_mail(digipost: Digipost) -> None:
    digipost.switch(True)
    assert digipost.switch(False) == Done()
    assert digipost.switch(False) == Done()
    assert not digipost.receives_public_mail()


def test_switching_on_without_an_account_is_refused_for_the_citizen_to_see(digipost: Digipost) -> None:
    assert digipost.switch(True, WITHOUT_ACCOUNT) == Refused("NO_ACCOUNT")


def test_switching_off_without_an_account_is_done_already(digipost: Digipost) -> None:
    assert digipost.switch(False, WITHOUT_ACCOUNT) == Done()


def test_an_account_that_get_tags_does_not_know_is_off_already(liar: Liar) -> None:
    error = _error("UNKNOWN_USER", "CLIENT_DATA")
    liar.answer = lambda data, request: signed(data, request, error, 400)
    assert liar.switch(on=False) == Done()
    assert liar.switch(on=True) == Refused("NO_ACCOUNT")


def test_a_tag_that_does_not_stick_is_not_done(liar: Liar) -> None:
    liar.answer = signed_tags
    assert liar.switch() == TryLater("READ_BACK_DIFFERS")


# --- the supplier misbehaves


def test_a_supplier_that_is_down_is_tried_later(digipost: Digipost) -> None:
    digipost.behave("down")
    assert digipost.switch(True) == TryLater("DIGIPOST_NO_ANSWER")
    digipost.behave("normal")
    assert digipost.switch(True) == Done()


def test_a_supplier_that_does_not_listen_is_tried_later(data: Path) -> None:
    assert _switch(adapter_for("http://127.0.0.1:1", data)) == TryLater("DIGIPOST_UNREACHABLE")


def test_a_slow_supplier_is_given_up_within_the_deadline(digipost: Digipost, data: Path) -> None:
    digipost.behave("slow", slow_seconds=1.5)
    began = time.monotonic()
    outcome = _switch(adapter_for(digipost.url, data, deadline_seconds=0.4))
    assert outcome == TryLater("DIGIPOST_TIMEOUT")
    assert time.monotonic() - began < 1.0


def test_an_answer_that_trickles_is_given_up_within_the_deadline(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        trickle = threading.Thread(target=_trickle, args=[listener])
        trickle.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert _switch(adapter_for(url, data, deadline_seconds=0.4)) == TryLater("DIGIPOST_TIMEOUT")
        trickle.join(timeout=2)
        assert not trickle.is_alive()


def _trickle(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection, contextlib.suppress(ConnectionError):
        connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            connection.sendall(b"x")
            time.sleep(0.05)


def test_the_entry_point_is_asked_for_again_when_idle_or_old(data: Path) -> None:
    key = keys.private_key(data / "sender-key.pem").public_key()
    entry_point = EntryPoint(key, {}, fetched_at=0.0, used_at=3500.0)
    assert entry_point.is_fresh(3600.0)
    assert not entry_point.is_fresh(3601.0)
    entry_point.used_at = entry_point.fetched_at
    assert not entry_point.is_fresh(301.0)


def test_the_suppliers_refusal_is_final(digipost: Digipost) -> None:
    digipost.behave("refuse")
    assert digipost.switch(True) == Refused("ACCOUNT_DEACTIVATED")


def test_a_lost_answer_is_made_good_by_the_next_attempt(digipost: Digipost) -> None:
    digipost.behave("lose_answer")
    assert digipost.switch(True) == TryLater("DIGIPOST_NO_ANSWER")
    assert digipost.receives_public_mail()
    digipost.behave("normal")
    assert digipost.switch(True) == Done()
    assert digipost.receives_public_mail()


def test_links_that_moved_are_found_again_in_the_same_attempt(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path, dirs_exist_ok=True)
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
    liar.answer = lambda data, request: signed(data, request, body, status)
    assert liar.switch() == outcome


@pytest.mark.parametrize("code", ["", "1ST", "lower", f"U_{PERSON}", "U_123_456", "A" * 65])
def test_codes_that_could_hold_something_personal_are_not_passed_on(code: str) -> None:
    assert safe_code(code) == "UNKNOWN_ERROR_CODE"


# --- what the adapter believes


def _wrong_signature(data: Path, request: Request) -> Response:
    stranger = keys.private_key(data / "sender-key.pem")
    return signed_answer(200, request.url.path, TAGGED, stranger, datetime.now(UTC))


def _no_signature(data: Path, request: Request) -> Response:
    return Response(TAGGED, headers={"Date": signing.http_date(datetime.now(UTC))})


def _other_body(data: Path, request: Request) -> Response:
    headers = signed(data, request, compose("tags")).headers
    kept = {name: headers[name] for name in ("date", "x-content-sha256", "x-digipost-signature")}
    return Response(TAGGED, headers=kept)


def _other_status(data: Path, request: Request) -> Response:
    answer = signed(data, request, TAGGED, 202)
    answer.status_code = 200
    return answer


def _old(data: Path, request: Request) -> Response:
    key = keys.private_key(data / "server-key.pem")
    return signed_answer(200, request.url.path, TAGGED, key, datetime.now(UTC) - timedelta(minutes=6))


def _unsigned_refusal(data: Path, request: Request) -> Response:
    return Response(_error("UNKNOWN_USER", "CLIENT_DATA"), 400)


def _bomb(data: Path, request: Request) -> Response:
    entities = '<!ENTITY a0 "PUBLIC_MAILBOX_TAG">' + "".join(
        f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10)
    )
    tags = '<tags xmlns="http://api.digipost.no/schema/v8"><tag-type>&a9;</tag-type></tags>'
    return signed(data, request, f"<!DOCTYPE tags [{entities}]>{tags}".encode())


def _file_of_this_machine(data: Path, request: Request) -> Response:
    entity = '<!DOCTYPE tags [<!ENTITY e SYSTEM "file:///etc/hostname">]>'
    tags = '<tags xmlns="http://api.digipost.no/schema/v8"><tag-type>&e;</tag-type></tags>'
    return signed(data, request, (entity + tags).encode())


def _oversize(data: Path, request: Request) -> Response:
    return signed(data, request, TAGGED + b" " * 300_000)


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
    liar: Liar, answer: Callable[[Path, Request], Response], error_code: str
) -> None:
    liar.answer = answer
    assert liar.switch() == TryLater(error_code)


def test_tags_that_are_not_known_are_passed_over(liar: Liar) -> None:
    tags = compose("tags", ("tag-type", "A_TAG_TO_COME"), ("tag-type", "PUBLIC_MAILBOX_TAG"))
    liar.answer = lambda data, request: signed(data, request, tags)
    assert liar.switch() == Done()


# --- nothing personal comes out


def test_no_identity_number_reaches_logs_or_spans(
    digipost: Digipost,
    liar: Liar,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(client, "_tracer", provider.get_tracer("test"))
    caplog.set_level(logging.DEBUG)
    for behaviour in ("normal", "refuse", "lose_answer", "down", "slow"):
        digipost.behave(behaviour, slow_seconds=0.2)
        digipost.switch(True, WITHOUT_ACCOUNT)
        digipost.switch(True)
    liar.answer = _wrong_signature
    liar.switch()
    finished = spans.get_finished_spans()
    assert {span.name for span in finished} >= {
        "digipost entry_point",
        "digipost get_tags",
        "digipost add_tag",
    }
    assert {key for span in finished for key in span.attributes or ()} == {
        "http.request.method",
        "http.response.status_code",
    }
    output = capfd.readouterr()
    everything = "".join([caplog.text, output.out, output.err, *(span.to_json() for span in finished)])
    assert PERSON not in everything
    assert WITHOUT_ACCOUNT not in everything


# --- settings


def test_the_adapter_is_made_from_the_environment(
    digipost: Digipost, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRR_DIGIPOST_URL", digipost.url)
    monkeypatch.setenv("KRR_DIGIPOST_BROKER_ID", BROKER_ID)
    monkeypatch.setenv("KRR_DIGIPOST_KEY_FILE", os.fspath(data / "sender-key.pem"))
    assert _switch(adapter_from_settings()) == Done()


def test_identity_numbers_leave_this_machine_under_tls_only(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRR_DIGIPOST_URL", "http://api.digipost.no")
    monkeypatch.setenv("KRR_DIGIPOST_BROKER_ID", BROKER_ID)
    monkeypatch.setenv("KRR_DIGIPOST_KEY_FILE", os.fspath(data / "sender-key.pem"))
    with pytest.raises(ValueError, match="https"):
        adapter_from_settings()


def _switch(adapter: DigipostAdapter, on: bool = True) -> Done | TryLater | Refused:
    return adapter.deliver(pb.Delivery(identifier=PERSON, receives_public_mail=on))


def _error(code: str, error_type: str) -> bytes:
    return compose("error", ("error-code", code), ("error-message", PERSON), ("error-type", error_type))
