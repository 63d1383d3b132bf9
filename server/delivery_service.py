"""DeliveryService: how adapters get their work and say what became of it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from krr.v1 import delivery_service_pb2 as pb
from opentelemetry import trace

from server import sweeps, translate
from server.call import Call
from server.domain.comparison import Account
from server.domain.errors import InvalidValue, Reason, Refusal
from server.domain.identifiers import PersonIdentifier, is_synthetic, parse_mailbox_address
from server.domain.outcome import Done, Refused, Sent, TryLater
from server.domain.person import Language
from server.store import deliveries, messages
from server.store.account_lists import AccountsRead
from server.store.store import Store
from server.store.trace_parent import span_context_of

MAX_LEASED = 100
_SHORTEST_LEASE, _LONGEST_LEASE = timedelta(seconds=1), timedelta(minutes=10)
_LONGEST_DELAY = timedelta(hours=24)
_MAX_GATEWAY_ID = 100


@dataclass(frozen=True)
class DeliveryService:
    """One method for each RPC of delivery_service.proto, in its order.

    switch_off_wait: how long an old operator's off waits for the new operator's on.
    sweep_every: how long a sweep takes that begins by itself; zero where none does.
    """

    store: Store
    now: Callable[[], datetime]
    parse_identifier: Callable[[str], PersonIdentifier]
    switch_off_wait: timedelta
    sweep_every: timedelta

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
        leased = self.store.write(
            call.caller,
            lambda transaction: messages.lease_messages(transaction, channel, limit=limit, duration=duration),
            deadline=call.deadline,
        )
        return pb.LeaseMessagesResponse(
            messages=[
                pb.Message(
                    message_id=str(each.id),
                    lease_token=str(each.lease_token),
                    kind=pb.MessageKind.Value(f"MESSAGE_KIND_{each.kind}"),
                    language=translate.language_to(Language(each.language)),
                    recipient=each.recipient,
                    operator_name=each.operator_name,
                    synthetic_person=is_synthetic(each.identifier),
                    receipt_token=str(each.receipt_token),
                    failed_attempts=each.failed_attempts,
                    trace_parent=each.trace_parent or "",
                )
                for each in leased
            ]
        )

    def FinishMessage(self, request: pb.FinishMessageRequest, call: Call) -> pb.FinishMessageResponse:
        message_id = translate.uuid_from("message_id", request.message_id)
        lease_token = translate.uuid_from("lease_token", request.lease_token)
        outcome: Sent | TryLater | Refused
        match request.WhichOneof("outcome"):
            case "sent":
                outcome = _sent(request.sent)
            case "try_later":
                outcome = _try_later(request.try_later)
            case "failed":
                outcome = Refused(translate.error_code_from("failed.error_code", request.failed.error_code))
            case _:
                raise InvalidValue(Reason.INVALID_FIELD, "outcome", "one of its fields")
        self.store.write(
            call.caller,
            lambda transaction: messages.finish_message(
                transaction, _channel_of(call), message_id, lease_token, outcome
            ),
            deadline=call.deadline,
        )
        return pb.FinishMessageResponse()

    def RecordReceipt(self, request: pb.RecordReceiptRequest, call: Call) -> pb.RecordReceiptResponse:
        receipt_token = translate.uuid_from("receipt_token", request.receipt_token)
        match request.WhichOneof("outcome"):
            case "delivered":
                failure = None
            case "failed":
                failure = translate.error_code_from("failed.error_code", request.failed.error_code)
            case _:
                raise InvalidValue(Reason.INVALID_FIELD, "outcome", "one of its fields")
        caused_by = self.store.write(
            call.caller,
            lambda transaction: messages.record_receipt(
                transaction, _channel_of(call), receipt_token, failure
            ),
            deadline=call.deadline,
        )
        # The gateway knows no trace: a receipt comes in one of its own.
        trace.get_current_span().add_link(span_context_of(caused_by))
        return pb.RecordReceiptResponse()


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
    return TryLater(
        translate.duration_from("try_later.delay", message.delay, least=timedelta(), most=_LONGEST_DELAY),
        translate.error_code_from("try_later.error_code", message.error_code),
    )


def _sent(message: pb.MessageSent) -> Sent:
    gateway_id = message.gateway_message_id
    if len(gateway_id) > _MAX_GATEWAY_ID or not gateway_id.isprintable():
        raise InvalidValue(
            Reason.INVALID_FIELD, "sent.gateway_message_id", f"at most {_MAX_GATEWAY_ID} printable characters"
        )
    return Sent(translate.error_code_from("sent.gateway", message.gateway), gateway_id)
