"""The kinds of leased work, mailbox deliveries, comparisons and messages, in one shape for the runner."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

import grpc
import structlog
from google.protobuf.duration_pb2 import Duration
from krr.v1 import delivery_service_pb2 as pb
from krr.v1.delivery_service_pb2_grpc import DeliveryServiceStub
from krr_client import RegisterError

from adapters.adapter import (
    AccountLister,
    AccountPage,
    AccountReader,
    AccountState,
    Done,
    MailboxAdapter,
    MessageGateway,
    Refused,
    Sent,
    TryLater,
    Unsure,
)
from adapters.late_calls import LateCalls, Unsettled

Piece = TypeVar("Piece", pb.Delivery, pb.Message, pb.Comparison)
Outcome = Done | Sent | AccountState | AccountPage | TryLater | Refused

# Calls to the register are short, so that a lease is fresh when its answer comes.
_CALL_SECONDS = 5.0

# A read that the register does not take waits for the operator to put it right.
_UNTIL_READ_AGAIN = 60.0

# No gateway knows a message again. One that may have been taken is sent again only after its
# receipt had time to come; a receipt ends the message at the register.
WAIT_FOR_RECEIPT = 10.0

_log = structlog.get_logger()


@dataclass(frozen=True)
class Work(Generic[Piece]):
    """Where pieces of work come from, what is done with each, where the outcome goes.

    adapter: the adapter's name, for logs and spans.
    verb: what is done with a piece, likewise.
    lease_seconds: how long each piece is leased.
    deadline_seconds: how long an attempt takes at most; 0 where the adapter does not say.
    lease: leases up to so many pieces. Raises RegisterError.
    deliver: one attempt with one piece.
    outcomes: what deliver may give.
    finish: tells the register the outcome; the number is the seconds to wait after a
        TryLater. Raises RegisterError.
    shortest_delay: seconds to wait at least after the outcome.
    attributes: what names a piece in logs and spans; nothing personal.
    trace_parent: trace context of what caused a piece; empty where that is unknown.
    idle_seconds: how long to wait where there was nothing to lease.
    """

    adapter: str
    verb: str
    lease_seconds: float
    deadline_seconds: float
    lease: Callable[[int], Sequence[Piece]]
    deliver: Callable[[Piece], Outcome]
    outcomes: tuple[type[Outcome], ...]
    finish: Callable[[Piece, Outcome, float], None]
    shortest_delay: Callable[[TryLater], float]
    attributes: Callable[[Piece], Mapping[str, str | int]]
    trace_parent: Callable[[Piece], str]
    idle_seconds: float = 0.25


def mailbox_work(
    name: str,
    adapter: MailboxAdapter,
    register: grpc.Channel,
    lease_seconds: float,
    settle_seconds: float = 60.0,
) -> Work[pb.Delivery]:
    """Deliveries of one mailbox operator.

    settle_seconds: for how long a call that was given up may still take effect.
    """
    stub = DeliveryServiceStub(register)

    def lease_deliveries(count: int) -> Sequence[pb.Delivery]:
        request = pb.LeaseDeliveriesRequest(max_deliveries=count, lease_duration=_duration(lease_seconds))
        return stub.LeaseDeliveries(request, timeout=_CALL_SECONDS).deliveries

    def finish(delivery: pb.Delivery, outcome: Outcome, delay: float) -> None:
        request = pb.FinishDeliveryRequest(delivery_id=delivery.delivery_id, lease_token=delivery.lease_token)
        match outcome:
            case Done(mailbox_address):
                request.done.CopyFrom(pb.DeliveryDone(mailbox_address=mailbox_address))
            case TryLater(error_code):
                request.try_later.CopyFrom(_try_later(error_code, delay))
            case Refused(error_code):
                request.refused.error_code = error_code
        stub.FinishDelivery(request, timeout=_CALL_SECONDS)

    return Work(
        adapter=name,
        verb="deliver",
        lease_seconds=lease_seconds,
        deadline_seconds=getattr(adapter, "deadline_seconds", 0.0),
        lease=lease_deliveries,
        deliver=LateCalls(adapter, settle_seconds).deliver,
        outcomes=(Done, TryLater, Refused),
        finish=finish,
        shortest_delay=lambda outcome: outcome.settled_in if isinstance(outcome, Unsettled) else 0.0,
        attributes=lambda delivery: {
            "krr.change_number": delivery.change_number,
            "krr.delivery_id": delivery.delivery_id,
        },
        trace_parent=lambda delivery: delivery.trace_parent,
    )


def comparison_work(
    name: str, reader: AccountReader, register: grpc.Channel, lease_seconds: float, idle_seconds: float
) -> Work[pb.Comparison]:
    """What a sweep of one mailbox operator asks to be read there; by its list where the reader lists."""
    stub = DeliveryServiceStub(register)
    lister = reader if isinstance(reader, AccountLister) else None

    def attributes(comparison: pb.Comparison) -> Mapping[str, str | int]:
        return {"krr.comparison_id": comparison.comparison_id}

    def lease_comparisons(count: int) -> Sequence[pb.Comparison]:
        request = pb.LeaseComparisonsRequest(
            max_comparisons=count,
            lease_duration=_duration(lease_seconds),
            lists_accounts=lister is not None,
        )
        return stub.LeaseComparisons(request, timeout=_CALL_SECONDS).comparisons

    def read(comparison: pb.Comparison) -> Outcome:
        if comparison.WhichOneof("subject") == "identifier":
            return reader.read(comparison.identifier)
        if lister is None:
            # The sweep began when the adapter was another.
            return TryLater("LISTS_NO_ACCOUNTS")
        return lister.list_after(comparison.accounts_after.identifier)

    def finish(comparison: pb.Comparison, outcome: Outcome, delay: float) -> None:
        request = pb.FinishComparisonRequest(
            comparison_id=comparison.comparison_id, lease_token=comparison.lease_token
        )
        match outcome:
            case AccountState():
                request.account.CopyFrom(_account_read(outcome))
            case AccountPage(accounts, is_last):
                request.accounts.is_last = is_last
                for identifier, state in accounts:
                    request.accounts.accounts.add(identifier=identifier, account=_account_read(state))
            case TryLater(error_code):
                request.try_later.CopyFrom(_try_later(error_code, delay))
        try:
            stub.FinishComparison(request, timeout=_CALL_SECONDS)
        except RegisterError as error:
            if error.status is not grpc.StatusCode.INVALID_ARGUMENT or request.HasField("try_later"):
                raise
            # Such as an address that the register does not take. Were nothing said, the sweep would
            # ask for the same again as soon as the lease ran out.
            _log.warning("read not taken", adapter=name, reason=error.reason, **attributes(comparison))
            request.try_later.CopyFrom(_try_later("READ_NOT_TAKEN", _UNTIL_READ_AGAIN))
            stub.FinishComparison(request, timeout=_CALL_SECONDS)

    return Work(
        adapter=name,
        verb="read",
        lease_seconds=lease_seconds,
        deadline_seconds=getattr(reader, "deadline_seconds", 0.0),
        lease=lease_comparisons,
        deliver=read,
        outcomes=(AccountState, AccountPage, TryLater),
        finish=finish,
        shortest_delay=lambda _: 0.0,
        attributes=attributes,
        trace_parent=lambda _: "",
        idle_seconds=idle_seconds,
    )


def message_work(
    name: str,
    gateway: MessageGateway,
    register: grpc.Channel,
    lease_seconds: float,
    *,
    channel: pb.Channel.ValueType,
    gateway_is_sandbox: bool,
) -> Work[pb.Message]:
    """Messages to people on one channel.

    gateway_is_sandbox: whether the gateway reaches no real people. A message to a synthetic
        person goes through no other: its number may be somebody's.
    """
    stub = DeliveryServiceStub(register)

    def lease_messages(count: int) -> Sequence[pb.Message]:
        request = pb.LeaseMessagesRequest(
            channel=channel, max_messages=count, lease_duration=_duration(lease_seconds)
        )
        return stub.LeaseMessages(request, timeout=_CALL_SECONDS).messages

    def send(message: pb.Message) -> Outcome:
        if message.synthetic_person and not gateway_is_sandbox:
            return Refused("SYNTHETIC_PERSON")
        return gateway.send(message)

    def finish(message: pb.Message, outcome: Outcome, delay: float) -> None:
        request = pb.FinishMessageRequest(message_id=message.message_id, lease_token=message.lease_token)
        match outcome:
            case Sent(gateway_name, gateway_message_id, parts, cost_class):
                request.sent.CopyFrom(
                    pb.MessageSent(
                        gateway=gateway_name,
                        gateway_message_id=gateway_message_id,
                        parts=parts,
                        cost_class=cost_class,
                    )
                )
            case Unsure(error_code):
                request.unsure.CopyFrom(pb.MessageUnsure(delay=_duration(delay), error_code=error_code))
            case TryLater(error_code):
                request.try_later.CopyFrom(_try_later(error_code, delay))
            case Refused(error_code):
                request.failed.error_code = error_code
        stub.FinishMessage(request, timeout=_CALL_SECONDS)

    return Work(
        adapter=name,
        verb="deliver",
        lease_seconds=lease_seconds,
        deadline_seconds=getattr(gateway, "deadline_seconds", 0.0),
        lease=lease_messages,
        deliver=send,
        outcomes=(Sent, Unsure, TryLater, Refused),
        finish=finish,
        shortest_delay=lambda outcome: (
            WAIT_FOR_RECEIPT if isinstance(outcome, Unsure) else outcome.wait_seconds
        ),
        attributes=lambda message: {"krr.message_id": message.message_id},
        trace_parent=lambda message: message.trace_parent,
    )


def _account_read(state: AccountState) -> pb.AccountRead:
    return pb.AccountRead(
        receives_public_mail=state.receives_public_mail,
        account_exists=state.account_exists,
        mailbox_address=state.address,
        certificate=state.certificate,
    )


def _try_later(error_code: str, delay: float) -> pb.TryLater:
    return pb.TryLater(delay=_duration(delay), error_code=error_code)


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromTimedelta(timedelta(seconds=seconds))
    return duration
