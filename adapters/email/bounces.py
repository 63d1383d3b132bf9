"""Where mail servers bring back what could not be delivered: a small SMTP server.

Each message has a return address of its own, which holds its receipt token; so neither addresses nor
mails are logged. The sender is told 250 only for what it need not bring again.
"""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from email.policy import default
from typing import Any

import grpc
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from krr.v1 import delivery_service_pb2 as pb
from krr.v1.delivery_service_pb2_grpc import DeliveryServiceStub
from krr_client import RegisterError

_MAX_BYTES = 512 * 1024
_CALL_SECONDS = 5.0
_READY_SECONDS = 30.0

_RETURN_ADDRESS = re.compile(r"bounce\+([0-9a-f-]{36})@(.+)", re.IGNORECASE)
# RFC 3463: class, subject and detail, each of a few digits.
_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")

# How the register says that it never gave the token out, or could not have.
_NO_SUCH_TOKEN = frozenset({grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT})


@contextmanager
def bounces_listener(listen: str, bounce_domain: str, register: grpc.Channel) -> Iterator[None]:
    """Take bounces in a thread and record them in the register.

    listen: host:port. Raises OSError where it is taken.
    """
    host, _, port = listen.rpartition(":")
    controller = Controller(
        _Bounces(DeliveryServiceStub(register), bounce_domain),
        hostname=host.strip("[]"),
        port=int(port),
        data_size_limit=_MAX_BYTES,
        decode_data=False,
        ready_timeout=_READY_SECONDS,
        ident="bounces",
    )
    controller.start()
    try:
        yield
    finally:
        controller.stop()


def receipt_of(mail: "Message[Any, Any]") -> pb.RecordReceiptRequest | None:
    """What a delivery status notification (RFC 3464) says in the end; None for other mail, and where
    delivery is only delayed."""
    for part in mail.walk():
        if part.get_content_type() != "message/delivery-status":
            continue
        for group in part.get_payload():
            if not isinstance(group, Message):
                continue
            action = str(group.get("Action", "")).strip().lower()
            if action == "failed":
                status = _STATUS.search(str(group.get("Status", "")))
                code = status[0].replace(".", "_") if status else "UNKNOWN"
                return pb.RecordReceiptRequest(failed=pb.MessageFailed(error_code=f"DSN_{code}"))
            if action == "delivered":
                return pb.RecordReceiptRequest(delivered=pb.MessageDelivered())
    return None


class _Bounces:
    """aiosmtpd's hooks."""

    def __init__(self, deliveries: DeliveryServiceStub, bounce_domain: str) -> None:
        self._deliveries = deliveries
        self._bounce_domain = bounce_domain.lower()

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        found = _RETURN_ADDRESS.fullmatch(address)
        if not found or found[2].lower() != self._bounce_domain:
            return "550 5.1.1 no such address"
        if envelope.rcpt_tos:
            return "452 4.5.3 one at a time"
        envelope.rcpt_tos.append(found[1].lower())
        return "250 2.1.5 ok"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        receipt = receipt_of(message_from_bytes(content, policy=default))
        if receipt is None:
            # An answer of a person's mailbox, or a delay: nothing final.
            return "250 2.0.0 noted"
        receipt.receipt_token = envelope.rcpt_tos[0]
        return await asyncio.to_thread(self._record, receipt)

    def _record(self, receipt: pb.RecordReceiptRequest) -> str:
        try:
            self._deliveries.RecordReceipt(receipt, timeout=_CALL_SECONDS)
        except RegisterError as error:
            gone = error.status in _NO_SUCH_TOKEN
            return "550 5.1.1 no such address" if gone else "451 4.3.0 try again later"
        return "250 2.0.0 recorded"
