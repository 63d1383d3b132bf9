"""What every SMS gateway must do, whatever it speaks: subclasses say how its other side is played."""

from typing import Protocol

import grpc
import pytest
from krr.v1 import delivery_service_pb2 as pb

from adapters.adapter import MessageGateway, Refused, Sent, TryLater, Unsure
from tests.adapters.fake_register import FakeRegister
from tests.adapters.link_sandbox import MOBILE, SECOND_TOKEN, message

LONG_NAME = "Digipost " * 30


class OtherSide(Protocol):
    """A gateway and what answers it.

    register: where the receipts go that the gateway hears.
    """

    gateway: MessageGateway
    register: FakeRegister

    def answer_next(self, how: str) -> None:
        """What becomes of the next message: "throttled", "queue full", "refused", "cut before" it was
        taken, "cut after", or "silent"."""

    def taken(self) -> list[str]:
        """The recipients of all messages taken, without "+"; one of several parts counts once."""

    def report(self, message: pb.Message, sent: Sent, *, delivered: bool) -> bool:
        """Bring a receipt; whether it was taken."""

    def report_unknown(self) -> bool:
        """Bring a receipt of a message that never was; whether the register was asked at most once."""

    def break_off(self) -> None:
        """End whatever stands between the two, and begin it anew."""

    def says(self, message: pb.Message, sent: Sent, receipt: pb.RecordReceiptRequest) -> bool:
        """Whether the receipt is about that message."""


class SmsConformance:
    """To be subclassed with a fixture `side`."""

    @pytest.fixture
    def side(self) -> OtherSide:
        raise NotImplementedError

    def test_a_message_is_accepted_once_and_told_with_parts_and_cost(self, side: OtherSide) -> None:
        sent = _sent(side.gateway.send(message()))
        assert sent.gateway_message_id
        assert (sent.parts, sent.cost_class) == (1, pb.COST_CLASS_SMS_DOMESTIC)
        assert side.taken() == [MOBILE.removeprefix("+")]

    def test_a_long_message_abroad_is_one_message_of_several_parts(self, side: OtherSide) -> None:
        sent = _sent(side.gateway.send(message(operator_name=LONG_NAME, recipient="+46700000000")))
        assert (sent.parts, sent.cost_class) == (3, pb.COST_CLASS_SMS_FOREIGN)
        assert side.taken() == ["46700000000"]

    @pytest.mark.parametrize("delivered", [True, False])
    def test_a_receipt_is_recorded(self, side: OtherSide, delivered: bool) -> None:
        wanted = message()
        sent = _sent(side.gateway.send(wanted))
        assert side.report(wanted, sent, delivered=delivered)
        (receipt,) = side.register.receipts
        assert side.says(wanted, sent, receipt)
        assert receipt.WhichOneof("outcome") == ("delivered" if delivered else "failed")

    @pytest.mark.parametrize("how", ["throttled", "queue full"])
    def test_a_gateway_that_has_no_room_is_tried_later_and_took_nothing(
        self, side: OtherSide, how: str
    ) -> None:
        side.answer_next(how)
        outcome = side.gateway.send(message())
        assert isinstance(outcome, TryLater)
        assert not isinstance(outcome, Unsure)
        assert outcome.wait_seconds == 0
        assert side.taken() == []
        assert isinstance(side.gateway.send(message()), Sent)

    def test_a_recipient_that_the_gateway_refuses_is_final(self, side: OtherSide) -> None:
        side.answer_next("refused")
        assert isinstance(side.gateway.send(message()), Refused)
        assert side.taken() == []

    @pytest.mark.parametrize(("how", "taken"), [("cut before", 0), ("cut after", 1), ("silent", 0)])
    def test_a_lost_answer_leaves_it_unsure_and_the_next_message_goes(
        self, side: OtherSide, how: str, taken: int
    ) -> None:
        side.answer_next(how)
        assert isinstance(side.gateway.send(message()), Unsure)
        assert len(side.taken()) == taken
        assert isinstance(side.gateway.send(message()), Sent)
        assert len(side.taken()) == taken + 1

    def test_a_receipt_comes_late_over_another_connection(self, side: OtherSide) -> None:
        wanted = message()
        sent = _sent(side.gateway.send(wanted))
        side.break_off()
        assert side.report(wanted, sent, delivered=True)
        assert side.says(wanted, sent, side.register.receipts[0])

    def test_a_receipt_that_comes_twice_is_taken_twice(self, side: OtherSide) -> None:
        wanted = message()
        sent = _sent(side.gateway.send(wanted))
        assert side.report(wanted, sent, delivered=True)
        assert side.report(wanted, sent, delivered=True)

    def test_a_receipt_of_an_unknown_message_does_no_harm(self, side: OtherSide) -> None:
        assert side.report_unknown()
        wanted = message()
        sent = _sent(side.gateway.send(wanted))
        assert side.report(wanted, sent, delivered=True)

    def test_receipts_out_of_order_are_each_about_its_own_message(self, side: OtherSide) -> None:
        first, second = message(), message(receipt_token=SECOND_TOKEN)
        sent = [_sent(side.gateway.send(each)) for each in (first, second)]
        assert side.report(second, sent[1], delivered=False)
        assert side.report(first, sent[0], delivered=True)
        failed, delivered = side.register.receipts
        assert side.says(second, sent[1], failed)
        assert side.says(first, sent[0], delivered)
        assert not side.says(first, sent[0], failed)

    def test_a_receipt_is_not_taken_before_the_register_has_it(self, side: OtherSide) -> None:
        wanted = message()
        sent = _sent(side.gateway.send(wanted))
        side.register.receipt_refusal = (grpc.StatusCode.UNAVAILABLE, "")
        assert not side.report(wanted, sent, delivered=True)
        side.register.receipt_refusal = None
        assert side.report(wanted, sent, delivered=True)
        assert len(side.register.receipts) == 1


def _sent(outcome: object) -> Sent:
    assert isinstance(outcome, Sent), outcome
    return outcome
