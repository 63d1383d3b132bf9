"""The delivery side of a register, on a real socket: gives out what it was told to, notes the rest."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from krr.v1 import delivery_service_pb2 as pb
from krr.v1.delivery_service_pb2_grpc import DeliveryServiceServicer, add_DeliveryServiceServicer_to_server

# A mailbox address that the register does not take.
NOT_TAKEN = "not an address"


class FakeRegister(DeliveryServiceServicer):
    """Each delivery and message is leased once."""

    # Where it is served, and a channel to it, for the tests that need them.
    port: int
    channel: grpc.Channel

    def __init__(self) -> None:
        self.deliveries: list[pb.Delivery] = []
        self.comparisons: list[pb.Comparison] = []
        self.messages: list[pb.Message] = []
        self.message_channel: pb.Channel.ValueType = pb.CHANNEL_SMS
        self.receipt_tokens: set[str] = set()
        self.lease_sizes: list[int] = []
        self.comparison_leases: list[pb.LeaseComparisonsRequest] = []
        self.finished: list[pb.FinishDeliveryRequest] = []
        self.finished_comparisons: list[pb.FinishComparisonRequest] = []
        self.finished_messages: list[pb.FinishMessageRequest] = []
        self.receipts: list[pb.RecordReceiptRequest] = []
        self.lease_seconds: list[int] = []
        self.before_lease_answer: Callable[[], None] = lambda: None
        self.finish_refusal: tuple[grpc.StatusCode, str] | None = None
        self.receipt_refusal: tuple[grpc.StatusCode, str] | None = None

    def LeaseDeliveries(
        self, request: pb.LeaseDeliveriesRequest, context: grpc.ServicerContext
    ) -> pb.LeaseDeliveriesResponse:
        count = request.max_deliveries
        self.lease_sizes.append(count)
        self.lease_seconds.append(request.lease_duration.seconds)
        leased, self.deliveries = self.deliveries[:count], self.deliveries[count:]
        if leased:
            self.before_lease_answer()
        return pb.LeaseDeliveriesResponse(deliveries=leased)

    def FinishDelivery(
        self, request: pb.FinishDeliveryRequest, context: grpc.ServicerContext
    ) -> pb.FinishDeliveryResponse:
        self._refuse_if_told(context)
        self.finished.append(request)
        return pb.FinishDeliveryResponse()

    def LeaseComparisons(
        self, request: pb.LeaseComparisonsRequest, context: grpc.ServicerContext
    ) -> pb.LeaseComparisonsResponse:
        count = request.max_comparisons
        self.comparison_leases.append(request)
        leased, self.comparisons = self.comparisons[:count], self.comparisons[count:]
        return pb.LeaseComparisonsResponse(comparisons=leased)

    def FinishComparison(
        self, request: pb.FinishComparisonRequest, context: grpc.ServicerContext
    ) -> pb.FinishComparisonResponse:
        self._refuse_if_told(context)
        if request.account.mailbox_address == NOT_TAKEN:
            refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        self.finished_comparisons.append(request)
        return pb.FinishComparisonResponse()

    def LeaseMessages(
        self, request: pb.LeaseMessagesRequest, context: grpc.ServicerContext
    ) -> pb.LeaseMessagesResponse:
        assert request.channel == self.message_channel
        leased, self.messages = self.messages[: request.max_messages], self.messages[request.max_messages :]
        return pb.LeaseMessagesResponse(messages=leased)

    def FinishMessage(
        self, request: pb.FinishMessageRequest, context: grpc.ServicerContext
    ) -> pb.FinishMessageResponse:
        self._refuse_if_told(context)
        self.finished_messages.append(request)
        return pb.FinishMessageResponse()

    def RecordReceipt(
        self, request: pb.RecordReceiptRequest, context: grpc.ServicerContext
    ) -> pb.RecordReceiptResponse:
        if self.receipt_refusal:
            refuse(context, *self.receipt_refusal)
        if request.HasField("gateway_message"):
            self.receipts.append(request)
            return pb.RecordReceiptResponse()
        try:
            uuid.UUID(request.receipt_token)
        except ValueError:
            refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        if request.receipt_token not in self.receipt_tokens:
            refuse(context, grpc.StatusCode.NOT_FOUND, "UNKNOWN_RECEIPT")
        self.receipts.append(request)
        return pb.RecordReceiptResponse()

    def _refuse_if_told(self, context: grpc.ServicerContext) -> None:
        if self.finish_refusal:
            refuse(context, *self.finish_refusal)


def refuse(context: grpc.ServicerContext, status: grpc.StatusCode, reason: str) -> None:
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(domain="krr.v1", reason=reason))
    rich = status_pb2.Status(code=status.value[0], message=reason, details=[detail])
    context.abort_with_status(rpc_status.to_status(rich))


@contextmanager
def serving(register: FakeRegister, port: int = 0) -> Iterator[int]:
    """Serve on the port, or a free one; yields it."""
    with ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        add_DeliveryServiceServicer_to_server(register, server)
        port = server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        try:
            yield port
        finally:
            server.stop(0).wait()


def eventually(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait until the condition holds."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "never came true"
        time.sleep(0.01)


@contextmanager
def in_thread(run: Callable[[threading.Event], None]) -> Iterator[threading.Event]:
    """Run in a thread that is told to stop at the end."""
    stop = threading.Event()
    thread = threading.Thread(target=run, args=[stop])
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(timeout=10)
        assert not thread.is_alive()
