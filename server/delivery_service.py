"""DeliveryService: how adapters get their work and say what became of it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from krr.v1 import delivery_service_pb2 as pb
from opentelemetry import trace

from server import sweeps, translate
from server.call import Call
from server.domain.comparison import Account
from server.domain.contact import ContactKind
from server.domain.errors import InvalidValue, Reason, Refusal
from server.domain.identifiers import PersonIdentifier, parse_mailbox_address
from server.domain.message import Channel, MessageKind, is_quiet
from server.domain.outcome import Done, Refused, Sent, TryLater, Unsure
from server.domain.person import Language
from server.store import deliveries, message_outcomes, messages
from server.store.account_lists import AccountsRead
from server.store.store import Store
from server.store.trace_parent import span_context_of
from server.store.transaction import Transaction

MAX_LEASED = 100
_SHORTEST_LEASE, _LONGEST_LEASE = timedelta(seconds=1), timedelta(minutes=10)
_LONGEST_DELAY = timedelta(hours=24)
_MAX_GATEWAY_ID = 100
_MOST_PARTS = 255


@dataclass(frozen=True)
class DeliveryService:
    """One method for each RPC of delivery_service.proto, in its order.

    switch_off_wait: how long an old operator's off waits for the new operator's on.
    sweep_every: how long a sweep takes that begins by itself; zero where none does.
    quiet_hours: see is_quiet().
    messages_per_day: how many messages one person is sent in 24 hours.
    """

    store: Store
    now: Callable[[], datetime]
    parse_identifier: Callable[[str], PersonIdentifier]
    switch_off_wait: timedelta
    sweep_every: timedelta
    quiet_hours: tuple[int, int] | None
    messages_per_day: int

    def LeaseDeliveries(self, request: pb.LeaseDeliveriesRequest, call: Call) -> pb.LeaseDeliveriesResponse:
        limit = translate.count_from("max_deliveries", request.max_deliveries, most=MAX_LEASED)
        duration = _lease_duration(request)
        leased = self.store.write(
            call.caller,
            lambda transaction: deliveries.lease_deliveries(
                transaction,
                call.caller.subject,
                limit=limit,
                duration=duration,
                wait_for_new_operator=self.switch_off_wait,
            ),
            deadline=call.deadline,
        )
        return pb.LeaseDeliveriesResponse(
            deliveries=[
                pb.Delivery(
                    delivery_id=each.id,
                    lease_token=str(each.lease_token),
                    identifier=each.identifier,
                    receives_public_mail=each.receives_public_mail,
                    mailbox_address=each.address or "",
                    change_number=each.change_number,
                    failed_attempts=each.failed_attempts,
                    trace_parent=each.trace_parent or "",
                    earlier_lease_ran_out=each.earlier_lease_ran_out,
                    open_account=(
                        pb.AccountToOpen(email=each.email, mobile=each.mobile)
                        if each.email and each.mobile
                        else None
                    ),
                )
                for each in leased
            ]
        )

    def FinishDelivery(self, request: pb.FinishDeliveryRequest, call: Call) -> pb.FinishDeliveryResponse:
        lease_token = translate.uuid_from("lease_token", request.lease_token)
        outcome: Done | TryLater | Refused
        match request.WhichOneof("outcome"):
            case "done":
                outcome = _done(request.done)
            case "try_later":
                outcome = _try_later(request.try_later)
            case "refused":
                outcome = Refused(translate.error_code_from("refused.error_code", request.refused.error_code))
            case _:
                raise InvalidValue(Reason.INVALID_FIELD, "outcome", "one of its fields")
        self.store.write(
            call.caller,
            lambda transaction: deliveries.finish_delivery(
                transaction, call.caller.subject, request.delivery_id, lease_token, outcome, self.now()
            ),
            deadline=call.deadline,
        )
        return pb.FinishDeliveryResponse()

    def LeaseComparisons(
        self, request: pb.LeaseComparisonsRequest, call: Call
    ) -> pb.LeaseComparisonsResponse:
        return sweeps.lease_comparisons(
            request,
            self.store,
            call,
            self.now(),
            limit=translate.count_from("max_comparisons", request.max_comparisons, most=MAX_LEASED),
            duration=_lease_duration(request),
            rolling=self.sweep_every,
        )

    def FinishComparison(
        self, request: pb.FinishComparisonRequest, call: Call
    ) -> pb.FinishComparisonResponse:
        outcome: Account | AccountsRead | TryLater
        match request.WhichOneof("outcome"):
            case "account":
                outcome = sweeps.account_from("account", request.account)
            case "accounts":
                outcome = sweeps.accounts_from("accounts", request.accounts, self.parse_identifier)
            case "try_later":
                outcome = _try_later(request.try_later)
            case _:
                raise InvalidValue(Reason.INVALID_FIELD, "outcome", "one of its fields")
        sweeps.finish_comparison(
            self.store, call, self.now(), request.comparison_id, request.lease_token, outcome
        )
        return pb.FinishComparisonResponse()

    def LeaseMessages(self, request: pb.LeaseMessagesRequest, call: Call) -> pb.LeaseMessagesResponse:
        limit = translate.count_from("max_messages", request.max_messages, most=MAX_LEASED)
        duration = _lease_duration(request)
        if request.channel not in pb.Channel.values() or request.channel == pb.CHANNEL_UNSPECIFIED:
            raise InvalidValue(Reason.INVALID_FIELD, "channel", "a channel of the contract")
        channel = _channel_of(call)
        if pb.Channel.Name(request.channel) != f"CHANNEL_{channel}":
            raise Refusal(Reason.CALLER_NOT_ALLOWED)
        quiet = is_quiet(self.now(), self.quiet_hours)
        leased = self.store.write(
            call.caller,
            lambda transaction: messages.lease_messages(
                transaction,
                channel,
                limit=limit,
                duration=duration,
                quiet=quiet,
                most_in_a_day=self.messages_per_day,
            ),
            deadline=call.deadline,
        )
        return pb.LeaseMessagesResponse(messages=[self._message_to(each, channel) for each in leased])

    def FinishMessage(self, request: pb.FinishMessageRequest, call: Call) -> pb.FinishMessageResponse:
        message_id = translate.uuid_from("message_id", request.message_id)
        lease_token = translate.uuid_from("lease_token", request.lease_token)
        outcome: Sent | TryLater | Unsure | Refused
        match request.WhichOneof("outcome"):
            case "sent":
                outcome = _sent(request.sent)
            case "unsure":
                outcome = Unsure(*_delay_and_code("unsure", request.unsure))
            case "try_later":
                outcome = _try_later(request.try_later)
            case "failed":
                outcome = Refused(translate.error_code_from("failed.error_code", request.failed.error_code))
            case _:
                raise InvalidValue(Reason.INVALID_FIELD, "outcome", "one of its fields")
        self.store.write(
            call.caller,
            lambda transaction: message_outcomes.finish_message(
                transaction, _channel_of(call), message_id, lease_token, outcome
            ),
            deadline=call.deadline,
        )
        return pb.FinishMessageResponse()

    def RecordReceipt(self, request: pb.RecordReceiptRequest, call: Call) -> pb.RecordReceiptResponse:
        match request.WhichOneof("outcome"):
            case "delivered":
                failure = None
            case "failed":
                failure = translate.error_code_from("failed.error_code", request.failed.error_code)
            case _:
                raise InvalidValue(Reason.INVALID_FIELD, "outcome", "one of its fields")
        channel = _channel_of(call)
        record: Callable[[Transaction], str | None]
        if request.HasField("gateway_message"):
            if request.receipt_token:
                raise InvalidValue(Reason.INVALID_FIELD, "receipt_token", "empty beside gateway_message")
            gateway, its_id = _gateway_message("gateway_message", request.gateway_message)
            record = partial(
                message_outcomes.record_receipt_by_gateway,
                channel=channel,
                gateway=gateway,
                gateway_message_id=its_id,
                failure=failure,
            )
        else:
            token = translate.uuid_from("receipt_token", request.receipt_token)
            record = partial(
                message_outcomes.record_receipt, channel=channel, receipt_token=token, failure=failure
            )
        caused_by = self.store.write(call.caller, record, deadline=call.deadline)
        # The gateway knows no trace: a receipt comes in one of its own.
        trace.get_current_span().add_link(span_context_of(caused_by))
        return pb.RecordReceiptResponse()

    def _message_to(self, leased: messages.LeasedMessage, channel: str) -> pb.Message:
        message = pb.Message(
            message_id=str(leased.id),
            lease_token=str(leased.lease_token),
            kind=pb.MessageKind.Value(f"MESSAGE_KIND_{leased.kind}"),
            language=translate.language_to(Language(leased.language)),
            recipient=leased.recipient,
            operator_name=leased.operator_name,
            synthetic_person=leased.synthetic,
            receipt_token=str(leased.receipt_token),
            failed_attempts=leased.failed_attempts,
            trace_parent=leased.trace_parent or "",
            deadline_date=leased.deadline.isoformat() if leased.deadline else "",
            case_count=leased.case_count,
            identifier=leased.identifier or "" if channel == Channel.LETTER else "",
            expires_time=translate.time_to(leased.expires_time),
        )
        if leased.kind == MessageKind.VERIFICATION_CODE:
            message.verification_code = self.store.one_time_code(leased.id, leased.recipient)
        if leased.contact_kind:
            message.contact_kind = translate.contact_kind_to(ContactKind(leased.contact_kind))
        return message


def _channel_of(call: Call) -> str:
    """The channel that an adapter for messages serves: the one it is named after."""
    return call.caller.subject.upper()


def _lease_duration(
    request: pb.LeaseDeliveriesRequest | pb.LeaseComparisonsRequest | pb.LeaseMessagesRequest,
) -> timedelta:
    return translate.duration_from(
        "lease_duration", request.lease_duration, least=_SHORTEST_LEASE, most=_LONGEST_LEASE
    )


def _done(message: pb.DeliveryDone) -> Done:
    if not message.mailbox_address:
        return Done()
    return Done(translate.named_field("done.mailbox_address", parse_mailbox_address, message.mailbox_address))


def _try_later(message: pb.TryLater) -> TryLater:
    return TryLater(*_delay_and_code("try_later", message))


def _delay_and_code(field: str, message: pb.TryLater | pb.MessageUnsure) -> tuple[timedelta, str]:
    return (
        translate.duration_from(f"{field}.delay", message.delay, least=timedelta(), most=_LONGEST_DELAY),
        translate.error_code_from(f"{field}.error_code", message.error_code),
    )


def _sent(message: pb.MessageSent) -> Sent:
    if not 0 <= message.parts <= _MOST_PARTS:
        raise InvalidValue(Reason.INVALID_FIELD, "sent.parts", f"0 to {_MOST_PARTS}")
    if message.cost_class not in pb.CostClass.values():
        raise InvalidValue(Reason.INVALID_FIELD, "sent.cost_class", "a class of the contract")
    told = message.cost_class != pb.COST_CLASS_UNSPECIFIED
    return Sent(
        *_gateway_message("sent", message),
        parts=message.parts or None,
        cost_class=pb.CostClass.Name(message.cost_class).removeprefix("COST_CLASS_") if told else None,
    )


def _gateway_message(field: str, message: pb.MessageSent | pb.GatewayMessage) -> tuple[str, str]:
    gateway_id = message.gateway_message_id
    if len(gateway_id) > _MAX_GATEWAY_ID or not gateway_id.isprintable():
        raise InvalidValue(
            Reason.INVALID_FIELD,
            f"{field}.gateway_message_id",
            f"at most {_MAX_GATEWAY_ID} printable characters",
        )
    return translate.error_code_from(f"{field}.gateway", message.gateway), gateway_id
