"""What is SMPP's own: PDUs on the wire, refused binds, sessions that end, receipts in their forms."""

import logging
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import smpp34
from krr.v1 import delivery_service_pb2 as pb
from structlog.testing import capture_logs

from adapters.adapter import Misconfigured, Refused, Sent, TryLater, Unsure
from adapters.sms import SmppSettings, SmsSettings, smpp_gateway
from adapters.sms.smpp import SmppGateway
from tests.adapters import message_centre
from tests.adapters.authority import Authority
from tests.adapters.fake_register import FakeRegister, eventually
from tests.adapters.link_sandbox import MOBILE, message
from tests.adapters.message_centre import PASSWORD, SYSTEM_ID, Centre

RECEIPTED_MESSAGE_ID, MESSAGE_STATE = 0x001E, 0x0427
NETWORK_ERROR_CODE, DELIVERY_FAILURE_REASON = 0x0423, 0x0425

LONG_NAME = "Digipost [€] " * 30


@pytest.fixture
def centre() -> Iterator[Centre]:
    with message_centre.message_centre() as centre:
        yield centre


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    (tmp_path / "password").write_text(PASSWORD + "\n")
    return tmp_path / "password"


@contextmanager
def bound_to(
    port: int, register: FakeRegister, password_file: Path, *, deadline_seconds: float = 4, **other: Any
) -> Iterator[SmppGateway]:
    settings = SmppSettings(
        **{
            "host": "127.0.0.1",
            "port": port,
            "tls": False,
            "system_id": SYSTEM_ID,
            "password_file": password_file,
            **other,
        }
    )
    with smpp_gateway(SmsSettings(deadline_seconds=deadline_seconds), settings, register.channel) as gateway:
        yield gateway


@pytest.fixture
def gateway(centre: Centre, fake_register: FakeRegister, password_file: Path) -> Iterator[SmppGateway]:
    with bound_to(centre.port, fake_register, password_file) as gateway:
        yield gateway


# --- on the wire


def test_a_short_message_is_one_pdu_that_asks_for_a_receipt(gateway: SmppGateway, centre: Centre) -> None:
    expires = datetime.now(UTC) + timedelta(minutes=10)
    assert isinstance(gateway.send(message(expires_time=expires)), Sent)
    (got,) = centre.messages
    assert (got.source_addr_ton, got.source_addr_npi, got.source_addr) == (5, 0, "Digdir")
    assert (got.dest_addr_ton, got.dest_addr_npi, got.destination_addr) == (1, 1, MOBILE.removeprefix("+"))
    assert (got.esm_class, got.registered_delivery, got.data_coding) == (0, 1, 0)
    assert got.short_message.decode("gsm03.38").startswith("Du har valgt Digipost ")
    (submit,) = (smpp34.decode(data) for data in centre.read if data[4:8] == b"\0\0\0\4")
    assert isinstance(submit, smpp34.SubmitSm)
    asked = datetime.strptime(submit.validity_period, "%y%m%d%H%M%S000+").replace(tzinfo=UTC)
    assert abs(asked - expires) < timedelta(seconds=5)


@pytest.mark.parametrize(
    ("name", "coding", "encoding"), [(LONG_NAME, 0, "gsm03.38"), ("Sámi poasta č " * 20, 8, "utf-16-be")]
)
def test_a_long_message_is_several_pdus_of_which_the_last_asks_for_the_receipt(
    gateway: SmppGateway, centre: Centre, name: str, coding: int, encoding: str
) -> None:
    sent = gateway.send(message(operator_name=name))
    parts = centre.messages
    assert sent == Sent("SMPP", centre.ids[-1], len(parts), pb.COST_CLASS_SMS_DOMESTIC)
    assert len(parts) >= 3
    assert [part.registered_delivery for part in parts] == [0] * (len(parts) - 1) + [1]
    assert {part.esm_class for part in parts} == {0x40}
    assert {part.data_coding for part in parts} == {coding}
    headers = [part.short_message[:6] for part in parts]
    (reference,) = {header[3] for header in headers}
    assert headers == [bytes([5, 0, 3, reference, len(parts), 1 + place]) for place in range(len(parts))]
    # Each part can be read by itself: no letter stands across two.
    assert name.strip() in "".join(part.short_message[6:].decode(encoding) for part in parts)


def test_a_message_that_is_sent_again_has_the_same_parts(gateway: SmppGateway, centre: Centre) -> None:
    wanted = message(operator_name=LONG_NAME)
    gateway.send(wanted)
    first = [part.short_message for part in centre.messages]
    gateway.send(wanted)
    assert [part.short_message for part in centre.messages] == first * 2


def test_a_message_that_is_no_news_any_more_is_not_sent(gateway: SmppGateway, centre: Centre) -> None:
    assert gateway.send(message(expires_time=datetime.now(UTC))) == Refused("EXPIRED")
    assert gateway.send(message(kind=99)) == TryLater("UNKNOWN_TEXT")
    assert centre.messages == []


# --- answers


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0x01, Refused("SMPP_01")),
        (0x08, TryLater("SMPP_08")),
        (0x0A, Misconfigured("SMPP_0A")),
        (0x0B, Refused("SMPP_0B")),
        (0x14, TryLater("SMPP_14")),
        (0x45, TryLater("SMPP_45")),
        (0x58, TryLater("SMPP_58")),
    ],
)
def test_a_status_of_the_centre_becomes_an_outcome(
    gateway: SmppGateway, centre: Centre, status: int, outcome: TryLater | Refused
) -> None:
    centre.answers = [message_centre.reject(status)]
    assert gateway.send(message()) == outcome


def test_only_the_loss_of_the_last_part_leaves_a_message_unsure(gateway: SmppGateway, centre: Centre) -> None:
    centre.answers = [message_centre.cut_after]
    assert gateway.send(message(operator_name=LONG_NAME)) == TryLater("ANSWER_LOST")
    parts = len(centre.messages)
    sent = gateway.send(message(operator_name=LONG_NAME))
    assert isinstance(sent, Sent)
    centre.answers = [*[message_centre.take] * (sent.parts - 1), message_centre.cut_after]
    assert gateway.send(message(operator_name=LONG_NAME)) == Unsure("ANSWER_LOST")
    assert parts == 1


# --- binds


def test_a_centre_that_is_away_takes_nothing_and_is_found_when_it_comes(
    fake_register: FakeRegister, password_file: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with bound_to(port, fake_register, password_file) as gateway:
        assert gateway.send(message()) == TryLater("UNREACHABLE")
        with message_centre.message_centre(port) as centre:
            eventually(lambda: centre.bound, 30)
            eventually(lambda: isinstance(gateway.send(message()), Sent), 20)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0x05, Misconfigured("SMPP_BIND_05")),
        (0x0D, Misconfigured("SMPP_BIND_0D")),
        (0x0E, Misconfigured("SMPP_BIND_0E")),
        (0x0F, Misconfigured("SMPP_BIND_0F")),
        (0x08, TryLater("SMPP_BIND_08")),
        (0x400, TryLater("SMPP_BIND_400")),
        (0x7FFFFFFF, TryLater("SMPP_BIND_FFFF")),
    ],
)
def test_a_bind_that_is_refused_says_why(
    fake_register: FakeRegister, password_file: Path, status: int, outcome: TryLater
) -> None:
    with refusing(status) as port, bound_to(port, fake_register, password_file) as gateway:
        assert gateway.send(message()) == outcome


@contextmanager
def refusing(status: int) -> Iterator[int]:
    """A centre that refuses every bind with the status."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    length, _, _, number = struct.unpack(">IIII", connection.recv(16, socket.MSG_WAITALL))
                    connection.recv(length - 16, socket.MSG_WAITALL)
                    connection.sendall(struct.pack(">IIII", 16, 0x80000009, status, number))

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            # Closing would leave the thread in accept.
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("asked", "outcome"),
    [("127.0.0.1", None), ("localhost", Misconfigured("CERTIFICATE_REFUSED"))],
)
def test_by_tls_a_message_goes_only_to_the_centre_that_its_certificate_names(
    fake_register: FakeRegister,
    password_file: Path,
    tmp_path: Path,
    asked: str,
    outcome: TryLater | None,
) -> None:
    authority = Authority(tmp_path, "authority")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("centre"))
    with (
        message_centre.message_centre(tls=context) as centre,
        bound_to(
            centre.port, fake_register, password_file, host=asked, tls=True, ca_file=authority.file
        ) as gateway,
    ):
        sent = gateway.send(message())
        assert sent == outcome or (outcome is None and isinstance(sent, Sent))
        assert len(centre.messages) == (outcome is None)


def test_by_tls_a_centre_of_an_unknown_authority_is_refused(
    fake_register: FakeRegister, password_file: Path, tmp_path: Path
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*Authority(tmp_path, "authority").issue("centre"))
    with (
        message_centre.message_centre(tls=context) as centre,
        bound_to(centre.port, fake_register, password_file, tls=True) as gateway,
    ):
        assert gateway.send(message()) == Misconfigured("CERTIFICATE_REFUSED")


@pytest.mark.parametrize(
    ("password", "outcome"),
    [(None, TryLater("NO_PASSWORD")), ("9 letters", Misconfigured("PASSWORD_TOO_LONG"))],
)
def test_a_password_that_cannot_be_sent_is_told(
    centre: Centre, fake_register: FakeRegister, tmp_path: Path, password: str | None, outcome: TryLater
) -> None:
    if password:
        (tmp_path / "other").write_text(password)
    with bound_to(centre.port, fake_register, tmp_path / "other") as gateway:
        assert gateway.send(message()) == outcome
    assert centre.bound == 0


def test_a_centre_that_falls_silent_is_bound_to_anew(
    centre: Centre, fake_register: FakeRegister, password_file: Path
) -> None:
    with bound_to(centre.port, fake_register, password_file, enquire_seconds=1) as gateway:
        assert isinstance(gateway.send(message()), Sent)
        centre.fall_silent()
        eventually(lambda: centre.bound == 2, 30)
        eventually(lambda: isinstance(gateway.send(message()), Sent), 20)


def test_a_quiet_centre_that_answers_keeps_its_session(
    centre: Centre, fake_register: FakeRegister, password_file: Path
) -> None:
    with capture_logs() as logs, bound_to(centre.port, fake_register, password_file, enquire_seconds=1):
        eventually(lambda: sum(data[4:8] == b"\0\0\0\x15" for data in centre.read) >= 2, 30)
    assert centre.bound == 1
    assert "smpp session ended" not in [log["event"] for log in logs]


# --- receipts


@pytest.mark.parametrize(
    ("state", "text", "error_code"),
    [
        (2, "DELIVRD", ""),
        (3, "EXPIRED", "SMPP_EXPIRED"),
        (4, "DELETED", "SMPP_DELETED"),
        (5, "UNDELIV", "SMPP_UNDELIV"),
        (8, "REJECTD", "SMPP_REJECTD"),
    ],
)
@pytest.mark.parametrize("form", ["text", "parameters", "parameters without closing zero"])
def test_a_final_state_is_recorded_in_whichever_form_it_comes(
    gateway: SmppGateway,
    centre: Centre,
    fake_register: FakeRegister,
    state: int,
    text: str,
    error_code: str,
    form: str,
) -> None:
    if form == "text":
        status = centre.report("0a1b", text)
    else:
        its_id = b"0a1b" if "without" in form else b"0a1b\0"
        tlvs = [
            smpp34.Tlv(RECEIPTED_MESSAGE_ID, its_id),
            smpp34.Tlv(MESSAGE_STATE, bytes([state])),
            smpp34.Tlv(NETWORK_ERROR_CODE, b"\3\0\0"),
            smpp34.Tlv(DELIVERY_FAILURE_REASON, b"\0"),
            # A vendor's own.
            smpp34.Tlv(0x1403, b"whatever"),
        ]
        status = centre.report("", text, tlvs=tlvs, text=False)
    assert status == 0
    (receipt,) = fake_register.receipts
    assert receipt.gateway_message == pb.GatewayMessage(gateway="SMPP", gateway_message_id="0a1b")
    assert receipt.failed.error_code == error_code
    assert receipt.HasField("delivered") is not bool(error_code)


@pytest.mark.parametrize(
    ("body", "esm_class"),
    [
        (b"id:0a1b stat:ENROUTE err:000", 0x04),
        (b"id:0a1b stat:ACCEPTD err:000", 0x04),
        (b"id:0a1b stat:UNKNOWN err:000", 0x04),
        (b"stat:DELIVRD", 0x04),
        (b"\xff\x00", 0x04),
        (b"", 0x04),
        (b"id:0a1b stat:DELIVRD", 0x00),
        (b"STOPP", 0x00),
    ],
)
def test_what_is_no_final_receipt_is_taken_and_not_recorded(
    gateway: SmppGateway, centre: Centre, fake_register: FakeRegister, body: bytes, esm_class: int
) -> None:
    assert centre.deliver(body, esm_class, []) == 0
    assert fake_register.receipts == []


# --- what is written


def test_neither_numbers_nor_texts_nor_the_password_are_logged(
    centre: Centre,
    fake_register: FakeRegister,
    password_file: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    with capture_logs() as logs, bound_to(centre.port, fake_register, password_file) as gateway:
        gateway.send(message())
        centre.answers = [message_centre.cut_before]
        gateway.send(message())
        centre.report("0a1b")
        assert centre.deliver(b"\xff", 0x04, [smpp34.Tlv(MESSAGE_STATE, b"")]) == 0x65
    written = caplog.text + repr(logs) + "".join(capfd.readouterr())
    assert "smpp bound" in written
    for secret in (MOBILE.removeprefix("+"), "Digipost", PASSWORD):
        assert secret not in written
        assert secret.encode().hex() not in written
