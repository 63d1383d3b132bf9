"""Where MyLINK reports what became of messages: one small HTTP listener.

A receipt's address holds the message's receipt token, which nobody else knows; so neither
addresses nor bodies are logged. The gateway is told 200 only for what it need not repeat.
"""

import asyncio
import re
from contextlib import AbstractContextManager

import grpc
from krr.v1 import delivery_service_pb2 as pb
from krr.v1.delivery_service_pb2_grpc import DeliveryServiceStub
from krr_client import RegisterError
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from adapters.http_server import serving

_MAX_BYTES = 16 * 1024
_CALL_SECONDS = 5.0

# MyLINK's status codes: 2000 delivered, 3000 and on rejected, 4000 and on failed. The rest
# (accepted, queued, sent, retried) say nothing final.
_DELIVERED = 2000
_FAILED = range(3000, 5000)

# How the register says that it never gave the token out, or could not have.
_NO_SUCH_TOKEN = frozenset({grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT})


def receipts_listener(listen: str, register: grpc.Channel) -> AbstractContextManager[str]:
    """Hear receipts in a thread and record them in the register, as serving() does."""
    return serving(
        _app(DeliveryServiceStub(register)), listen, limit_concurrency=100, timeout_graceful_shutdown=10
    )


def _app(deliveries: DeliveryServiceStub) -> Starlette:
    async def receive(request: Request) -> Response:
        token = request.path_params["token"]
        if not re.fullmatch("[A-Za-z0-9_-]{1,128}", token):
            return Response(status_code=404)
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > _MAX_BYTES:
                    return Response(status_code=413)
        except ClientDisconnect:
            return Response(status_code=400)
        try:
            code = _DeliveryReport.model_validate_json(bytes(body)).status.code
        except ValidationError:
            return Response(status_code=400)
        receipt = _receipt(token, code)
        if receipt is None:
            return Response(status_code=200)
        return Response(status_code=await asyncio.to_thread(_record, deliveries, receipt))

    return Starlette(routes=[Route("/receipts/{token}", receive, methods=["POST"])])


class _Status(BaseModel):
    code: int


class _DeliveryReport(BaseModel):
    status: _Status


def _receipt(token: str, code: int) -> pb.RecordReceiptRequest | None:
    """What to record; None for a report that is not final."""
    if code == _DELIVERED:
        return pb.RecordReceiptRequest(receipt_token=token, delivered=pb.MessageDelivered())
    if code in _FAILED:
        return pb.RecordReceiptRequest(
            receipt_token=token, failed=pb.MessageFailed(error_code=f"LINK_{code}")
        )
    return None


def _record(deliveries: DeliveryServiceStub, receipt: pb.RecordReceiptRequest) -> int:
    """Record the receipt; the HTTP status that says how it went."""
    try:
        deliveries.RecordReceipt(receipt, timeout=_CALL_SECONDS)
    except RegisterError as error:
        return 404 if error.status in _NO_SUCH_TOKEN else 503
    return 200
