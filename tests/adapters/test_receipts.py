"""Receipts of the SMS gateway, over real sockets on both sides."""

import json
import logging
import socket
import time
import uuid
from collections.abc import Iterator

import pytest
from krr.v1 import delivery_service_pb2 as pb
from krr_client import connect

from adapters.receipts import receipts_listener
from tests.adapters.fake_register import FakeRegister, serving
from tests.adapters.link_sandbox import MOBILE, TOKEN
from tests.adapters.sandbox import http

NEVER_GIVEN_OUT = "1d7d3f0a-55c4-4f27-8a34-6f0d7f3b9a02"


class Listener:
    def __init__(self, url: str, register: FakeRegister) -> None:
        self.url = url
        self.register = register

    def report(self, code: int, token: str = TOKEN) -> int:
        body = {
            "eventId": str(uuid.uuid4()),
            "channel": "sms",
            "recipient": MOBILE,
            "timeStamp": "2026-11-22T12:00:00Z",
            "status": {"messageId": str(uuid.uuid4()), "type": "whatever", "code": code, "segments": 1},
            "provider": {"code": None},
        }
        return self.post(json.dumps(body).encode(), token)

    def post(self, body: bytes, token: str = TOKEN) -> int:
        return http.post(f"{self.url}/receipts/{token}", content=body).status_code


@pytest.fixture(scope="module")
def started() -> Iterator[Listener]:
    register = FakeRegister()
    register.receipt_tokens = {TOKEN}
    with (
        serving(register) as port,
        connect(f"127.0.0.1:{port}", "Development adapter/sms") as channel,
        receipts_listener("127.0.0.1:0", channel) as url,
    ):
        yield Listener(url, register)


@pytest.fixture
def listener(started: Listener) -> Listener:
    started.register.receipts.clear()
    return started


def test_delivered_is_recorded(listener: Listener) -> None:
    assert listener.report(2000) == 200
    assert listener.register.receipts == [
        pb.RecordReceiptRequest(receipt_token=TOKEN, delivered=pb.MessageDelivered())
    ]


@pytest.mark.parametrize("code", [3000, 3013, 4000, 4003, 4011])
def test_what_will_not_arrive_is_recorded_with_the_gateways_code(listener: Listener, code: int) -> None:
    assert listener.report(code) == 200
    assert listener.register.receipts == [
        pb.RecordReceiptRequest(receipt_token=TOKEN, failed=pb.MessageFailed(error_code=f"LINK_{code}"))
    ]


@pytest.mark.parametrize("code", [1, 2, 1000, 1001, 5000, -1, 10**12])
def test_what_is_not_final_is_taken_and_not_recorded(listener: Listener, code: int) -> None:
    assert listener.report(code) == 200
    assert listener.register.receipts == []


@pytest.mark.parametrize("token", [NEVER_GIVEN_OUT, "no-uuid", "a" * 129, "%0A", "a%20b"])
def test_an_unknown_token_is_not_found(listener: Listener, token: str) -> None:
    assert listener.report(2000, token) == 404
    assert listener.register.receipts == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"2000"', b'{"status": {}}', b'{"status": {"code": "x"}}', b"\xff", b"[" * 10_000],
)
def test_a_malformed_report_is_refused(listener: Listener, body: bytes) -> None:
    assert listener.post(body) == 400
    assert listener.register.receipts == []


def test_an_oversize_report_is_refused(listener: Listener) -> None:
    assert listener.post(b" " * 20_000) == 413


def test_only_posts_to_receipts_are_answered(listener: Listener) -> None:
    assert http.get(f"{listener.url}/receipts/{TOKEN}").status_code == 405
    assert http.get(listener.url).status_code == 404


def test_a_receipt_is_not_taken_while_the_register_is_away() -> None:
    with serving(FakeRegister()) as port:
        pass
    with (
        connect(f"127.0.0.1:{port}", "Development adapter/sms") as channel,
        receipts_listener("127.0.0.1:0", channel) as url,
    ):
        assert Listener(url, FakeRegister()).report(2000) == 503


def test_a_taken_port_stops_the_start(listener: Listener) -> None:
    address = listener.url.removeprefix("http://")
    with (
        connect("127.0.0.1:1", "Development adapter/sms") as channel,
        pytest.raises(OSError, match="in use"),
        receipts_listener(address, channel),
    ):
        pass


def test_no_log_holds_the_token_or_the_number(
    listener: Listener, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    listener.report(2000)
    listener.post(b"{")
    listener.report(2000, NEVER_GIVEN_OUT)
    _hang_up_half_way(listener.url)
    written = caplog.text + "".join(capfd.readouterr())
    assert TOKEN not in written
    assert NEVER_GIVEN_OUT not in written
    assert MOBILE not in written
    assert "Traceback" not in written


def _hang_up_half_way(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as caller:
        caller.sendall(
            f"POST /receipts/{TOKEN} HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{{".encode()
        )
    # Time for the listener to see that the caller is gone, and to complain if it does.
    time.sleep(0.1)
