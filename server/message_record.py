"""The record of messages in the words of the contract, for the staff."""

import uuid

from krr.v1 import delivery_service_pb2
from krr.v1 import message_record_pb2 as pb

from server import translate
from server.call import Call
from server.domain.errors import InvalidValue, Reason
from server.domain.person import Language
from server.domain.rules import MAX_BATCH
from server.store import messages
from server.store.messages import MessageRow
from server.store.store import Store
from server.store.trace_parent import trace_id_of
from server.store.transaction import Answer
from server.tokens import Tokens

_DEFAULT_PAGE = 100
_LAST = 2**63 - 1


def list_messages(
    request: pb.ListMessagesRequest, store: Store, tokens: Tokens, call: Call
) -> pb.ListMessagesResponse:
    """A page of messages, newest first.

    Raises InvalidValue: BATCH_SIZE, INVALID_FIELD or INVALID_TOKEN; Refusal: as Store.read does.
    """
    page_size = translate.count_from("page_size", request.page_size, most=MAX_BATCH, default=_DEFAULT_PAGE)
    before = tokens.read_page(request.page_token)
    if request.state not in pb.MessageState.values():
        raise InvalidValue(Reason.INVALID_FIELD, "state", "a state of the contract")
    all_states = request.state == pb.MESSAGE_STATE_UNSPECIFIED
    state = "" if all_states else pb.MessageState.Name(request.state).removeprefix("MESSAGE_STATE_")
    rows = store.read(
        lambda reader: messages.list_messages(
            reader,
            state=state,
            change_number=request.change_number,
            before=_LAST if before is None else before,
            limit=page_size,
        ),
        deadline=call.deadline,
    )
    return pb.ListMessagesResponse(
        messages=[_message_to(row) for row in rows],
        next_page_token=tokens.page(rows[-1].number) if len(rows) == page_size else "",
    )


def retry_messages(request: pb.RetryMessagesRequest, store: Store, call: Call) -> pb.RetryMessagesResponse:
    """Make messages due again.

    Raises InvalidValue: BATCH_SIZE or INVALID_FIELD; Refusal: as Store.write does.
    """
    translate.batch_size_in("message_ids", len(request.message_ids), MAX_BATCH)
    ids: list[uuid.UUID] = [
        translate.uuid_from(f"message_ids[{i}]", each) for i, each in enumerate(request.message_ids)
    ]
    answer = store.write(
        call.caller,
        lambda transaction: Answer("RETRIED", affected_count=messages.retry_messages(transaction, ids)),
        deadline=call.deadline,
        request=translate.write_request(request, request.request_id),
    )
    return pb.RetryMessagesResponse(retried_count=answer.affected_count, duplicate=answer.duplicate)


def _message_to(row: MessageRow) -> pb.MessageStatus:
    return pb.MessageStatus(
        message_id=str(row.id),
        kind=delivery_service_pb2.MessageKind.Value(f"MESSAGE_KIND_{row.kind}"),
        channel=delivery_service_pb2.Channel.Value(f"CHANNEL_{row.channel}"),
        language=translate.language_to(Language(row.language)),
        operator_name=row.operator_name,
        state=pb.MessageState.Value(f"MESSAGE_STATE_{row.state}"),
        reason_code=row.reason_code or "",
        change_number=row.change_number,
        failed_attempts=row.failed_attempts,
        gateway=row.gateway or "",
        created_time=translate.time_to(row.created_time),
        sent_time=translate.time_to(row.sent_time),
        delivered_time=translate.time_to(row.delivered_time),
        trace_id=trace_id_of(row.trace_parent),
        parts=row.parts,
        cost_class=delivery_service_pb2.CostClass.Value(f"COST_CLASS_{row.cost_class or 'UNSPECIFIED'}"),
        expires_time=translate.time_to(row.expires_time),
    )
