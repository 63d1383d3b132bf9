"""Each SMS gateway passes the same suite: LINK through its sandbox, SMPP through a foreign message centre."""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from krr.v1 import delivery_service_pb2 as pb

from adapters.adapter import Sent
from adapters.receipts import receipts_listener
from adapters.sms import SmppSettings, SmsSettings, smpp_gateway
from tests.adapters import faulty_link, message_centre
from tests.adapters.fake_register import FakeRegister
from tests.adapters.faulty_link import FaultyLink
from tests.adapters.link_sandbox import Link, gateway_for, message
from tests.adapters.message_centre import Centre
from tests.adapters.sandbox import http
from tests.adapters.sms_conformance import SmsConformance

_ANSWERS = {
    "throttled": message_centre.reject(0x58),
    "queue full": message_centre.reject(0x14),
    "refused": message_centre.reject(0x0B),
    "cut before": message_centre.cut_before,
    "cut after": message_centre.cut_after,
    "silent": message_centre.say_nothing,
}

_FAULTS = {
    "throttled": faulty_link.answer(429),
    "queue full": faulty_link.answer(429),
    "refused": faulty_link.answer(400),
    "cut before": faulty_link.cut,
    "cut after": faulty_link.lose_answer,
    "silent": faulty_link.half_open,
}


class LinkSide:
    """LINK's sandbox behind a line that spoils what it is told to."""

    def __init__(self, register: FakeRegister, link: Link, line: FaultyLink) -> None:
        self.register = register
        self._link = link
        self._line = line
        self._listener = ExitStack()
        self._receipts = self._listener.enter_context(receipts_listener("127.0.0.1:0", register.channel))
        line.operator_url = link.url
        # The sandbox's own receipts go nowhere.
        self.gateway = gateway_for(line.url, link.secret_file, deadline_seconds=2)
        # So that the token has been fetched.
        assert isinstance(self.gateway.send(message()), Sent)
        self._earlier = len(link.messages())

    def answer_next(self, how: str) -> None:
        self._line.spoil(0, _FAULTS[how])

    def taken(self) -> list[str]:
        return [kept["recipient"].removeprefix("+") for kept in self._link.messages()[self._earlier :]]

    def report(self, message: pb.Message, sent: Sent, *, delivered: bool) -> bool:
        return self._post(message.receipt_token, 2000 if delivered else 4009) == 200

    def report_unknown(self) -> bool:
        return self._post(str(uuid.uuid4()), 2000) == 404

    def break_off(self) -> None:
        self._listener.close()
        address = self._receipts.removeprefix("http://")
        self._listener.enter_context(receipts_listener(address, self.register.channel))

    def says(self, message: pb.Message, sent: Sent, receipt: pb.RecordReceiptRequest) -> bool:
        return receipt.receipt_token == message.receipt_token

    def close(self) -> None:
        self._line.heal()
        self._listener.close()

    def _post(self, token: str, code: int) -> int:
        return http.post(f"{self._receipts}/receipts/{token}", json={"status": {"code": code}}).status_code


@pytest.fixture(scope="module")
def line() -> Iterator[FaultyLink]:
    with faulty_link.faulty_link() as line:
        yield line


class TestLink(SmsConformance):
    @pytest.fixture
    def side(self, fake_register: FakeRegister, link: Link, line: FaultyLink) -> Iterator[LinkSide]:
        side = LinkSide(fake_register, link, line)
        yield side
        side.close()


class SmppSide:
    """A message centre on a line that can be cut."""

    def __init__(self, register: FakeRegister, centre: Centre, settings: SmppSettings) -> None:
        self.register = register
        self.centre = centre
        self._running = ExitStack()
        sms = SmsSettings(deadline_seconds=4)
        self.gateway = self._running.enter_context(smpp_gateway(sms, settings, register.channel))

    def answer_next(self, how: str) -> None:
        self.centre.answers = [_ANSWERS[how]]

    def taken(self) -> list[str]:
        # Of a message in parts the last asks for the receipt.
        return [kept.destination_addr for kept in self.centre.messages if kept.registered_delivery]

    def report(self, message: pb.Message, sent: Sent, *, delivered: bool) -> bool:
        return self._is_taken(sent.gateway_message_id, "DELIVRD" if delivered else "UNDELIV")

    def report_unknown(self) -> bool:
        # The register keeps it, for an answer that may still be under way.
        return self._is_taken("never-given-out", "DELIVRD")

    def break_off(self) -> None:
        self.centre.hang_up()

    def says(self, message: pb.Message, sent: Sent, receipt: pb.RecordReceiptRequest) -> bool:
        return receipt.gateway_message == pb.GatewayMessage(
            gateway=sent.gateway, gateway_message_id=sent.gateway_message_id
        )

    def close(self) -> None:
        self._running.close()

    def _is_taken(self, its_id: str, state: str) -> bool:
        status = self.centre.report(its_id, state)
        # Else as one that is to be brought again.
        assert status in (0, 0x64)
        return status == 0


class TestSmpp(SmsConformance):
    @pytest.fixture
    def side(self, fake_register: FakeRegister, tmp_path: Path) -> Iterator[SmppSide]:
        (tmp_path / "password").write_text(message_centre.PASSWORD)
        with message_centre.message_centre() as centre:
            settings = SmppSettings(
                host="127.0.0.1",
                port=centre.port,
                tls=False,
                system_id=message_centre.SYSTEM_ID,
                password_file=tmp_path / "password",
            )
            side = SmppSide(fake_register, centre, settings)
            yield side
            side.close()
